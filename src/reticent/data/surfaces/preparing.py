"""Brings a surface to what a network takes: few faces, a common position and unit, arrays of one shape."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from reticent.data.cohort import Record
from reticent.data.surfaces.girths import Profile, girth_profile
from reticent.data.surfaces.mesh import Mesh, area_normals, directed_edges
from reticent.data.surfaces.mesh_files import read_surface
from reticent.data.surfaces.registration import register_rigid
from reticent.data.surfaces.remeshing import decimate
from reticent.errors import InputError

_MOST_DIFFERENT = 20.0
"""Between the sizes of a surface and the declared one: beyond, one of them is in another unit."""


@dataclass(frozen=True)
class SurfacePreparation:
    """What is done to every surface, in the order: decimation, position, unit.

    Surfaces get at most `faces` faces. With the public `reference` (a mesh file, of no patient of the cohort) they are
    registered to it without scaling, else moved so that the middle of their area is the origin. Coordinates are divided
    by `length`, in the unit of the files; None: the reference's (its root mean square distance from its centre), or 1.

    Of a record two inputs are left: "vertices", (6, faces / 2 + 3), positions and area normals, and "edges",
    (2, 3 faces): start and end of every edge in both directions, sorted by start. Behind the last vertex are zeros;
    edges beyond the last join the last column, which is no vertex, to itself.
    """

    faces: int
    reference: Path | None = None
    length: float | None = None

    def apply(self, record: Record) -> Record:
        """The prepared record; raises InputError for a surface that cannot be brought to this."""
        mesh = self.placed(mesh_of(record), record.subject)
        vertices, edges = self._arrays(mesh, record.subject)
        return replace(record, inputs={"vertices": vertices, "edges": edges})

    def placed(self, mesh: Mesh, name: str) -> Mesh:
        """The surface with few faces, in its common position and unit."""
        small = decimate(mesh, self.faces, name)
        size = _radius(small)
        if not self._unit / _MOST_DIFFERENT <= size <= self._unit * _MOST_DIFFERENT and self._declared:
            raise InputError(
                f"{name}: its size is {size:.3g}, but the {self._declared} says {self._unit:.3g}: another unit (mm, m)? "
                "Convert the file, or leave it out"
            )
        if self._reference is not None:
            small = register_rigid(small, self._reference)
            origin = self._reference.vertices.mean(0)
        else:
            weights = np.linalg.norm(area_normals(small), axis=1)
            origin = weights @ small.vertices / weights.sum()
        return small.with_vertices((small.vertices - origin) / self._unit)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the inputs of one record."""
        return {"vertices": (6, self.faces // 2 + 3), "edges": (2, 3 * self.faces)}

    def _arrays(self, mesh: Mesh, name: str) -> tuple[np.ndarray, np.ndarray]:
        shapes, edges = self.shapes, directed_edges(mesh)
        columns, count = shapes["vertices"][1], len(mesh.vertices)
        if count >= columns:
            raise InputError(f"{name}: {count} vertices for {len(mesh.faces)} faces; repair the mesh or leave it out")
        vertices = np.zeros(shapes["vertices"], np.float32)
        normals = area_normals(mesh) * (columns / (4 * np.pi))  # of length 1 on a sphere of radius 1
        vertices[:, :count] = np.concatenate([mesh.vertices, normals], axis=1).T
        padded = np.full(shapes["edges"], columns - 1, np.float32)
        padded[:, : len(edges)] = edges.T
        return vertices, padded

    @cached_property
    def _reference(self) -> Mesh | None:
        return None if self.reference is None else decimate(read_surface(self.reference), self.faces, str(self.reference))

    @cached_property
    def _unit(self) -> float:
        if self.length is not None:
            return self.length
        return 1.0 if self._reference is None else _radius(self._reference)

    @property
    def _declared(self) -> str | None:
        if self.length is not None:
            return "declared --length"
        return None if self.reference is None else f"reference {self.reference}"


@dataclass(frozen=True)
class ProfilePreparation:
    """Makes the girth profile of every surface its one input, "profile" (numbers,).

    With the public `reference` (a mesh file, of no patient of the cohort) each number is its relative difference from
    the reference's, so that all are of one size without any statistic of the cohort; without, it is as measured.
    """

    profile: Profile
    reference: Path | None = None

    def apply(self, record: Record) -> Record:
        """The record with its profile."""
        measured = girth_profile(mesh_of(record), self.profile)
        return replace(record, inputs={"profile": self.relative(measured).astype(np.float32)})

    def relative(self, measured: np.ndarray) -> np.ndarray:
        """A profile as the ridge takes it."""
        return measured if self._usual is None else measured / self._usual - 1

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the input of one record."""
        return {"profile": (len(self.profile.names),)}

    @cached_property
    def _usual(self) -> np.ndarray | None:
        if self.reference is None:
            return None
        usual = girth_profile(read_surface(self.reference), self.profile)
        if (usual <= 0).any():
            missing = self.profile.names[int((usual <= 0).argmax())]
            raise InputError(f"{self.reference}: the reference has no {missing}; choose another --reference or profile")
        return usual


def mesh_of(record: Record) -> Mesh:
    """The mesh that a reader of surfaces gave as "vertices" (3, V) and "faces" (3, F)."""
    vertices, faces = record.inputs["vertices"], record.inputs["faces"]
    return Mesh(vertices.T.astype(np.float64), faces.T.astype(np.int64))


def _radius(mesh: Mesh) -> float:
    """Root mean square distance of the vertices from their mean."""
    return float(np.sqrt(((mesh.vertices - mesh.vertices.mean(0)) ** 2).sum(1).mean()))
