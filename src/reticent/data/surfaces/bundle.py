"""Many meshes in one NPZ archive, laid out one behind another with offsets, and a table of their subjects and targets.

| array | shape | content |
|---|---|---|
| `vertices` | (sum of V, 3) | positions, floating point |
| `faces` | (sum of F, 3) | corners, numbered within their own mesh from 0 |
| `vertex_offsets`, `face_offsets` | (meshes + 1,) | mesh k has rows offsets[k] to offsets[k + 1] |
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from reticent.data.surfaces.mesh import Mesh, as_surface
from reticent.data.surfaces.mesh_files import is_npz_of
from reticent.errors import InputError

_ARRAYS = {"vertices", "faces", "vertex_offsets", "face_offsets"}


def is_bundle(uri: str) -> bool:
    """Whether the address is an archive of this form."""
    return uri.lower().endswith(".npz") and is_npz_of(Path(uri), _ARRAYS)


@dataclass(frozen=True)
class MeshBundle:
    """An archive of meshes, read when the first of them is asked for."""

    path: Path

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        try:
            with np.load(self.path) as stored:
                arrays = {name: stored[name] for name in _ARRAYS}
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{self.path}: not a readable archive of meshes ({error}); replace the file") from error
        for kind in ("vertex", "face"):
            offsets, rows = arrays[f"{kind}_offsets"], arrays["vertices" if kind == "vertex" else "faces"]
            if rows.ndim != 2 or rows.shape[1] != 3 or offsets.ndim != 1 or (np.diff(offsets) < 0).any():
                raise InputError(f"{self.path}: vertices and faces have shape (n, 3), and offsets grow; store them so")
            if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(rows):
                raise InputError(f"{self.path}: {kind}_offsets must go from 0 to {len(rows)}; correct them")
        if len(arrays["vertex_offsets"]) != len(arrays["face_offsets"]):
            raise InputError(f"{self.path}: vertex_offsets and face_offsets are of different numbers of meshes")
        return arrays

    def __len__(self) -> int:
        return len(self._arrays["vertex_offsets"]) - 1

    def surface(self, k: int) -> Mesh:
        """The largest part of mesh `k`; raises InputError naming it if it is no closed surface (`as_surface`)."""
        vertices, faces = self._rows(k)
        return as_surface(Mesh(vertices.astype(np.float64), faces.astype(np.int64)), f"{self.path}, mesh {k}")

    def digest(self, k: int) -> bytes:
        """SHA-256 of the stored vertices and faces of mesh `k`."""
        vertices, faces = self._rows(k)
        return hashlib.sha256(vertices.tobytes() + faces.tobytes()).digest()

    def _rows(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        arrays = self._arrays
        vertices, faces = (
            arrays[name][arrays[offsets][k] : arrays[offsets][k + 1]]
            for name, offsets in (("vertices", "vertex_offsets"), ("faces", "face_offsets"))
        )
        return vertices, faces
