"""Public references that surfaces are registered to or compared with: a mesh file, or a made-up ellipsoid."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from reticent.data.surfaces.mesh import Mesh
from reticent.data.surfaces.mesh_files import read_surface
from reticent.errors import InputError

_SCHEME = "ellipsoid:"


def read_reference(text: str) -> Mesh:
    """The mesh of a file, or `ellipsoid:AxBxC` with half-axes along x, y and z in the unit of the cohort's files.

    Raises InputError for another form or a file that holds no surface.
    """
    if not text.startswith(_SCHEME):
        return read_surface(Path(text))
    import trimesh

    form = re.fullmatch(r"([\d.]+)x([\d.]+)x([\d.]+)", text.removeprefix(_SCHEME))
    axes = np.array([float(axis) for axis in form.groups()]) if form else np.zeros(3)
    if not (axes > 0).all():
        raise InputError(f"--reference {text}: write three half-axes, as ellipsoid:0.2x0.15x0.9")
    sphere = trimesh.creation.icosphere(subdivisions=4)
    return Mesh(np.asarray(sphere.vertices, np.float64) * axes, np.asarray(sphere.faces, np.int64))
