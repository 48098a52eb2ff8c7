"""Rigid registration of surfaces to one reference, without scaling: size is the signal."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from reticent.data.surfaces.mesh import Mesh

_ITERATIONS = 50
_TOLERANCE = 1e-6


def kabsch(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""The rotation R (3, 3) and shift t (3,) that bring `source` (n, 3) closest to `target`: R x + t.

    With the centred cross-covariance :math:`H = P^\top Q = U \Sigma V^\top`,
    :math:`R = V \operatorname{diag}(1, 1, \det V U^\top) U^\top`: a rotation, never a reflection.

    Source: Arun, Huang & Blostein 1987; the sign of the last factor, Umeyama 1991.
    """
    middle, goal = source.mean(0), target.mean(0)
    u, _, vt = np.linalg.svd((source - middle).T @ (target - goal))
    sign = np.sign(np.linalg.det(vt.T @ u.T))
    rotation = vt.T @ np.diag([1, 1, sign]) @ u.T
    return rotation, goal - rotation @ middle


def register_rigid(mesh: Mesh, reference: Mesh) -> Mesh:
    """The mesh rotated and shifted onto a public reference by iterative closest points (Besl & McKay 1992).

    Starts from coinciding centres; ends when the root mean square distance to the nearest reference vertices changes by
    less than a millionth of it, or after 50 rounds. The reference must not be a patient of the cohort.
    """
    tree = KDTree(reference.vertices)
    moved = mesh.vertices - mesh.vertices.mean(0) + reference.vertices.mean(0)
    before = np.inf
    for _ in range(_ITERATIONS):
        distances, nearest = tree.query(moved)
        rms = float(np.sqrt(np.mean(distances**2)))
        if abs(before - rms) <= _TOLERANCE * rms:
            break
        rotation, shift = kabsch(moved, reference.vertices[nearest])
        moved, before = moved @ rotation.T + shift, rms
    return mesh.with_vertices(moved)
