"""Brings a surface to what a model takes: an array of one shape, by declared constants and its own geometry alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from reticent.data.surfaces.girths import Profile, girth_profile
from reticent.data.surfaces.mesh import Mesh, area_normals, directed_edges
from reticent.data.surfaces.reference import read_reference
from reticent.data.surfaces.registration import register_rigid
from reticent.data.surfaces.remeshing import decimate
from reticent.errors import InputError

_MOST_DIFFERENT = 20.0
"""Between the sizes of a surface and the declared one: beyond, one of them is in another unit."""


@dataclass(frozen=True)
class GraphPreparation:
    """What is done to every surface for networks on its graph, in the order: decimation, position, unit.

    Surfaces get at most `faces` faces. With the public `reference` (`read_reference`, no patient of the cohort) they
    are registered to it without scaling, else moved so that the middle of their area is the origin. Coordinates are
    divided by `length`, in the unit of the files; None: the reference's (root mean square distance from its centre),
    or 1.

    The input "surface" is float32 (12, P), P = faces / 2 + 3:

    | rows | content |
    |---|---|
    | 0-2 | positions of the vertices |
    | 3-5 | area normals, of length 1 on a sphere of radius 1 |
    | 6-8, 9-11 | both ends of every edge, as column numbers, 3 P at most, row by row |

    Columns behind the last vertex are zeros, and the last column is never a vertex: edges behind the last join it to
    itself.
    """

    faces: int
    reference: str | None = None
    length: float | None = None
    input = "surface"

    @property
    def shape(self) -> tuple[int, int]:
        return 12, self.faces // 2 + 3

    def pack(self, mesh: Mesh, name: str) -> np.ndarray:
        """The input; raises InputError naming `name` for a surface that cannot be brought to it."""
        return self.packed(self.placed(decimate(mesh, self.faces, name), name), name)

    def placed(self, mesh: Mesh, name: str) -> Mesh:
        """The surface in its common position and unit."""
        size = _radius(mesh)
        if self._declared and not self._unit / _MOST_DIFFERENT <= size <= self._unit * _MOST_DIFFERENT:
            raise InputError(
                f"{name}: its size is {size:.3g}, but {self._declared} says {self._unit:.3g}: another unit (mm, m)? "
                "Convert the file, or leave it out"
            )
        if self._reference is not None:
            mesh = register_rigid(mesh, self._reference)
            origin = self._reference.vertices.mean(0)
        else:
            weights = np.linalg.norm(area_normals(mesh), axis=1)
            origin = weights @ mesh.vertices / weights.sum()
        return mesh.with_vertices((mesh.vertices - origin) / self._unit)

    def packed(self, mesh: Mesh, name: str) -> np.ndarray:
        """The array of a surface that is in its place; raises InputError if it has too many vertices."""
        rows, columns = self.shape
        count, edges = len(mesh.vertices), directed_edges(mesh)
        edges = edges[edges[:, 0] < edges[:, 1]]
        if count >= columns or len(edges) > 3 * columns:
            raise InputError(f"{name}: {count} vertices for {len(mesh.faces)} faces; repair the mesh or leave it out")
        packed = np.zeros((rows, columns), np.float32)
        packed[:3, :count] = mesh.vertices.T
        packed[3:6, :count] = area_normals(mesh).T * (columns / (4 * np.pi))
        ends = np.full((2, 3 * columns), columns - 1)
        ends[:, : len(edges)] = edges.T
        packed[6:] = ends.reshape(6, columns)
        return packed

    @cached_property
    def _reference(self) -> Mesh | None:
        if self.reference is None:
            return None
        return decimate(read_reference(self.reference), self.faces, self.reference)

    @cached_property
    def _unit(self) -> float:
        if self.length is not None:
            return self.length
        return 1.0 if self._reference is None else _radius(self._reference)

    @property
    def _declared(self) -> str | None:
        if self.length is not None:
            return "the declared --length"
        return None if self.reference is None else f"the reference {self.reference}"


@dataclass(frozen=True)
class ProfilePreparation:
    """Makes the girth profile of every surface its one input, "profile", float32 (1, numbers).

    With the public `reference` (`read_reference`, no patient of the cohort) each number is its relative difference from
    the reference's, so that all are of one size without any statistic of the cohort; without, it is as measured.
    """

    profile: Profile
    reference: str | None = None
    input = "profile"

    @property
    def shape(self) -> tuple[int, int]:
        return 1, len(self.profile.names)

    def pack(self, mesh: Mesh, name: str) -> np.ndarray:
        """The input; raises InputError naming the reference if it lacks what is measured."""
        measured, usual = girth_profile(mesh, self.profile), self._usual
        return (measured if usual is None else measured / usual - 1).astype(np.float32)[None]

    @cached_property
    def _usual(self) -> np.ndarray | None:
        if self.reference is None:
            return None
        usual = girth_profile(read_reference(self.reference), self.profile)
        if (usual <= 0).any():
            missing = self.profile.names[int((usual <= 0).argmax())]
            raise InputError(f"{self.reference}: the reference has no {missing}; choose another reference or profile")
        return usual


def _radius(mesh: Mesh) -> float:
    """Root mean square distance of the vertices from their mean."""
    return float(np.sqrt(((mesh.vertices - mesh.vertices.mean(0)) ** 2).sum(1).mean()))
