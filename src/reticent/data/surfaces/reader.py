"""The reader of cohorts whose records are surfaces: prepared arrays, as a model takes them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from reticent.data.surfaces.bundle import MeshBundle
from reticent.data.surfaces.girths import Profile
from reticent.data.surfaces.mesh import Mesh
from reticent.data.surfaces.mesh_files import read_surface
from reticent.data.surfaces.preparing import GraphPreparation, ProfilePreparation
from reticent.data.surfaces.remeshing import mask_to_mesh
from reticent.errors import InputError

if TYPE_CHECKING:
    from reticent.data.cohort import Reader

USUAL_FACES = 2000


@dataclass(frozen=True)
class SurfaceOptions:
    """How surfaces are prepared: as a girth profile if there is a `profile`, else as graphs; see the preparations."""

    faces: int | None = None
    reference: str | None = None
    length: float | None = None
    profile: Profile | None = None

    def preparation(self) -> GraphPreparation | ProfilePreparation:
        """What is done to every surface; graphs have 2,000 faces unless told otherwise."""
        if self.profile is not None:
            return ProfilePreparation(self.profile, self.reference)
        return GraphPreparation(self.faces or USUAL_FACES, self.reference, self.length)


class SurfaceLocator(Protocol):
    """Where a surface comes from; each method raises InputError naming the file."""

    @property
    def name(self) -> str:
        """For messages."""

    def surface(self) -> Mesh:
        """Its largest part, closed and facing outwards."""

    def digest(self) -> bytes:
        """SHA-256 of the stored bytes."""

    def stamp(self) -> str:
        """Changes when the stored bytes change."""


@dataclass(frozen=True)
class MeshFile:
    """A mesh in a file of its own."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def surface(self) -> Mesh:
        return read_surface(self.path)

    def digest(self) -> bytes:
        return digest_of(self.path)

    def stamp(self) -> str:
        return stamp_of(self.path)


@dataclass(frozen=True)
class BundledMesh:
    """Mesh `number` of an archive."""

    bundle: MeshBundle
    number: int

    @property
    def name(self) -> str:
        return f"{self.bundle.path}, mesh {self.number}"

    def surface(self) -> Mesh:
        return self.bundle.surface(self.number)

    def digest(self) -> bytes:
        return self.bundle.digest(self.number)

    def stamp(self) -> str:
        return f"{stamp_of(self.bundle.path)} {self.number}"


@dataclass(frozen=True)
class MaskSurface:
    """The surface of the foreground of a mask that another cohort's reader gives."""

    reader: Reader
    locator: Any
    name: str
    is_input: bool
    """Whether the mask is the reader's input, not its target."""

    def mask(self) -> tuple[np.ndarray, tuple[float, ...]]:
        """Label numbers (X, Y, Z), and the size of a voxel in mm; raises InputError for what is none."""
        inputs, targets = self.reader.decode(self.locator)
        mask = next(iter(inputs.values()))[0] if self.is_input else targets.get("mask")
        if mask is None:
            raise InputError(f"{self.name}: no mask, so that there is no surface; leave it out")
        spacing = self.reader.spacing(self.locator)
        if spacing is None or mask.ndim != 3:
            raise InputError(f"{self.name}: a surface needs a volume with voxel sizes, such as NIfTI; convert the mask")
        return mask, spacing

    def surface(self) -> Mesh:
        mask, spacing = self.mask()
        return mask_to_mesh(mask, spacing, name=self.name)

    def digest(self) -> bytes:
        mask, spacing = self.mask()
        return hashlib.sha256(np.ascontiguousarray(mask).tobytes() + repr((mask.shape, spacing)).encode()).digest()

    def stamp(self) -> str:
        return self.reader.stamp(self.locator)


@dataclass(frozen=True)
class SurfaceReader:
    """Decodes surfaces into the one input of their preparation."""

    preparation: GraphPreparation | ProfilePreparation

    @property
    def channels(self) -> Mapping[str, int]:
        return {self.preparation.input: self.preparation.shape[0]}

    def shape(self, locator: SurfaceLocator) -> tuple[int, ...]:
        return self.preparation.shape[1:]

    def spacing(self, locator: SurfaceLocator) -> None:
        return None

    def decode(self, locator: SurfaceLocator) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        return {self.preparation.input: self.preparation.pack(locator.surface(), locator.name)}, {}

    def digest(self, locator: SurfaceLocator) -> bytes:
        return locator.digest()

    def stamp(self, locator: SurfaceLocator) -> str:
        return f"{locator.stamp()} {self.preparation}"


def digest_of(path: Path) -> bytes:
    """SHA-256 of a file; raises InputError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def stamp_of(path: Path) -> str:
    """Size and modification time of a file."""
    status = path.stat()
    return f"{status.st_size}:{status.st_mtime_ns}"
