import numpy as np
import pytest
import trimesh

from reticent.data.surfaces import Mesh


@pytest.fixture
def ball():
    """A mask of a ball of this radius in voxels."""

    def make(radius):
        line = np.arange(-radius - 2, radius + 3)
        return line[:, None, None] ** 2 + line[:, None] ** 2 + line**2 <= radius**2

    return make


@pytest.fixture
def ellipsoid():
    """An ellipsoid with these half-axes, turned by a random rotation of this seed (None: not turned)."""

    def make(axes=(0.3, 0.2, 0.8), seed=None, subdivisions=3):
        sphere = trimesh.creation.icosphere(subdivisions=subdivisions)
        vertices = np.asarray(sphere.vertices, np.float64) * axes
        if seed is not None:
            vertices = (
                vertices @ trimesh.transformations.random_rotation_matrix(np.random.default_rng(seed).random(3))[:3, :3]
            )
        return Mesh(vertices, np.asarray(sphere.faces, np.int64))

    return make
