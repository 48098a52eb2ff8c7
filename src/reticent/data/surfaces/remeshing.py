"""Surfaces from masks, and with fewer faces, by scikit-image, trimesh and fast-simplification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from reticent.data.surfaces.mesh import Mesh, as_surface, merged
from reticent.errors import InputError

_TAUBIN_ROUNDS = 10
_AGGRESSION = 7.0
"""How fast the error allowed to a collapse grows (1 to 10); with less, a few thousand faces stay as they are."""


def mask_to_mesh(
    mask: np.ndarray,
    spacing: Sequence[float],
    level: float = 0.5,
    smooth: Literal["gaussian", "taubin"] | None = None,
    name: str = "the mask",
) -> Mesh:
    """The surface of a mask's largest part, by marching cubes (Lewiner et al. 2003), in mm with the origin at voxel 0.

    `mask` (X, Y, Z) is foreground where it is not 0. Volumes are right to 1 % for a body of ten voxels' radius and
    more; areas of the staircase are 8 to 9 % too large. `smooth="gaussian"` (one voxel, before) makes areas right and
    loses volume; `"taubin"` (ten rounds, after; Taubin 1995) smooths areas and keeps volume.

    Raises InputError naming `name` for a mask that is empty or is no volume.
    """
    from scipy.ndimage import gaussian_filter
    from skimage.measure import marching_cubes

    if mask.ndim != 3 or min(mask.shape) < 2:
        raise InputError(f"{name}: a surface needs a mask of three dimensions with two slices or more")
    inside = np.pad((mask != 0).astype(np.float32), 2)
    if not inside.any():
        raise InputError(f"{name}: the mask is empty, so that there is no surface; leave it out")
    if smooth == "gaussian":
        inside = gaussian_filter(inside, 1.0)
    vertices, faces, _, _ = marching_cubes(inside, level, spacing=tuple(spacing), gradient_direction="ascent")
    mesh = Mesh(vertices.astype(np.float64) - 2 * np.asarray(spacing), faces.astype(np.int64))
    mesh = as_surface(merged(mesh), name)
    return _taubin(mesh) if smooth == "taubin" else mesh


def decimate(mesh: Mesh, faces: int, name: str = "the mesh") -> Mesh:
    """The surface with at most `faces` faces by collapsing the edges of least quadric error (Garland & Heckbert 1997).

    A mesh that has no more is returned as it is. Raises InputError naming `name` if it cannot be brought to so few, or
    no closed surface is left.
    """
    if len(mesh.faces) <= faces:
        return mesh
    from fast_simplification import simplify

    low, size = mesh.vertices.min(0), np.ptp(mesh.vertices, axis=0).max()
    within = ((mesh.vertices - low) / size).astype(np.float32)  # its thresholds are of this unit
    vertices, kept = simplify(within, mesh.faces.astype(np.int32), target_count=faces, agg=_AGGRESSION)
    smaller = Mesh(low + size * vertices.astype(np.float64), kept.astype(np.int64))
    smaller = as_surface(smaller, f"{name}, with {len(kept)} faces")
    if len(smaller.faces) > faces:
        raise InputError(
            f"{name}: is left with {len(smaller.faces)} faces where {faces} are asked for; choose a larger number of "
            "--faces"
        )
    return smaller


def _taubin(mesh: Mesh) -> Mesh:
    import trimesh

    smoothed = trimesh.smoothing.filter_taubin(mesh.to_trimesh(), iterations=_TAUBIN_ROUNDS)
    return mesh.with_vertices(np.asarray(smoothed.vertices))
