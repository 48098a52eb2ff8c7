"""A triangle mesh, what makes it the surface of a body, and its first measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from reticent.errors import InputError

if TYPE_CHECKING:
    import trimesh


@dataclass(frozen=True, eq=False)
class Mesh:
    """`vertices`, float64 (V, 3) in the unit of the file, and `faces`, int64 (F, 3): corners counter-clockwise."""

    vertices: np.ndarray
    faces: np.ndarray

    def with_vertices(self, vertices: np.ndarray) -> Mesh:
        """The same faces on other positions."""
        return Mesh(vertices, self.faces)

    def to_trimesh(self) -> trimesh.Trimesh:
        """The mesh as trimesh's, unchanged."""
        import trimesh  # takes a third of a second, and only meshes need it

        return trimesh.Trimesh(self.vertices, self.faces, process=False)


def mesh_volume(mesh: Mesh) -> float:
    r"""Signed volume, :math:`V = \frac16 \sum_f v_0 \cdot (v_1 \times v_2)` (divergence theorem).

    Positive where faces are counter-clockwise seen from outside. Of a closed surface it does not depend on the origin,
    which is put into the middle of the vertices, so that far from it no digits are lost.
    """
    corners = _corners(mesh) - mesh.vertices.mean(0)
    return float(np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6)


def mesh_area(mesh: Mesh) -> float:
    """Sum of the areas of all faces."""
    return float(np.linalg.norm(_area_vectors(mesh), axis=1).sum())


def area_normals(mesh: Mesh) -> np.ndarray:
    """Of each vertex a third of the summed area vectors of its faces, (V, 3): normals as long as the adjacent area."""
    total = np.zeros_like(mesh.vertices)
    share = _area_vectors(mesh) / 3
    for corner in range(3):
        np.add.at(total, mesh.faces[:, corner], share)
    return total


def directed_edges(mesh: Mesh) -> np.ndarray:
    """Every edge once in each direction, (E, 2), sorted by its start."""
    both = _half_edges(mesh.faces)
    return np.unique(np.concatenate([both, both[:, ::-1]]), axis=0)


def as_surface(mesh: Mesh, name: str) -> Mesh:
    """The largest connected part of a mesh, closed and facing outwards.

    Closed means that every edge is passed as often in one direction as in the other, so that the faces have no
    boundary: what `mesh_volume` needs. Two sheets that touch along an edge are closed.

    Raises InputError naming `name` for a mesh without faces, with vertices that are NaN, infinite or of no extent,
    with faces of vertices that do not exist, with a hole, an edge of three faces, or faces of mixed orientation.
    """
    mesh = largest_part(_checked(mesh, name))
    passes = _boundary(mesh)
    if passes:
        raise InputError(
            f"{name}: the surface is not closed: {passes} of its edges lie on a hole, between three faces, or between "
            "faces of opposite orientation; repair the mesh (fill holes, orient faces) or leave it out"
        )
    volume = mesh_volume(mesh)
    if abs(volume) <= 1e-9 * np.prod(np.ptp(mesh.vertices, axis=0)):
        raise InputError(f"{name}: the surface encloses no volume; repair the mesh or leave it out")
    return mesh if volume > 0 else Mesh(mesh.vertices, mesh.faces[:, ::-1].copy())


def merged(mesh: Mesh) -> Mesh:
    """Vertices at one place become one, and faces that vanish by it go; what is closed stays so."""
    vertices, index = np.unique(mesh.vertices, axis=0, return_inverse=True)
    return Mesh(vertices, _distinct(index.reshape(-1)[mesh.faces]))


def largest_part(mesh: Mesh) -> Mesh:
    """The connected part with the most faces, without vertices that no face uses."""
    edges, count = _half_edges(mesh.faces), len(mesh.vertices)
    graph = coo_matrix((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), (count, count))
    part = connected_components(graph, directed=False)[1]
    largest = np.bincount(part[mesh.faces[:, 0]]).argmax()
    kept, used = mesh.faces[part[mesh.faces[:, 0]] == largest], part == largest
    return Mesh(mesh.vertices[used], (np.cumsum(used) - 1)[kept])


def _checked(mesh: Mesh, name: str) -> Mesh:
    if not len(mesh.faces) or not len(mesh.vertices):
        raise InputError(f"{name}: an empty mesh, without faces; replace it or leave it out")
    if not np.isfinite(mesh.vertices).all():
        broken = int((~np.isfinite(mesh.vertices)).any(axis=1).sum())
        raise InputError(f"{name}: {broken} vertices are NaN or infinite; repair the mesh or leave it out")
    if mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices):
        raise InputError(f"{name}: faces name vertices beyond the {len(mesh.vertices)} there are; replace the file")
    mesh = Mesh(mesh.vertices, _distinct(mesh.faces))
    if not len(mesh.faces) or mesh_area(mesh) == 0:
        raise InputError(f"{name}: all faces have an area of zero; replace the file or leave it out")
    return mesh


def _distinct(faces: np.ndarray) -> np.ndarray:
    kept: np.ndarray = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    return kept


def _boundary(mesh: Mesh) -> int:
    """Edges that are not passed as often forwards as backwards."""
    edges = _half_edges(mesh.faces)
    low, high = edges.min(axis=1), edges.max(axis=1)
    _, codes = np.unique(low * np.int64(len(mesh.vertices)) + high, return_inverse=True)
    return int(np.count_nonzero(np.bincount(codes, np.where(edges[:, 0] == low, 1, -1))))


def _half_edges(faces: np.ndarray) -> np.ndarray:
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def _corners(mesh: Mesh) -> np.ndarray:
    corners: np.ndarray = mesh.vertices[mesh.faces]
    return corners


def _area_vectors(mesh: Mesh) -> np.ndarray:
    corners = _corners(mesh)
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2
