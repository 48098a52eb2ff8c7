import nibabel
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from reticent.data.surfaces import Mesh, kabsch, mask_to_mesh, mesh_volume, register_rigid


def test_kabsch_finds_a_rotation_and_shift_to_the_last_digits():
    for seed in range(20):
        random = np.random.default_rng(seed)
        points, rotation, shift = (
            random.normal(size=(30, 3)),
            Rotation.random(rng=random).as_matrix(),
            random.normal(size=3),
        )
        found, moved = kabsch(points, points @ rotation.T + shift)
        np.testing.assert_allclose(found, rotation, atol=1e-12)
        np.testing.assert_allclose(moved, shift, atol=1e-12)


def test_kabsch_agrees_with_scipy_on_noisy_points():
    random = np.random.default_rng(3)
    points = random.normal(size=(40, 3))
    target = Rotation.random(rng=random).apply(points) + random.normal(0, 0.3, points.shape)
    expected, _ = Rotation.align_vectors(target - target.mean(0), points - points.mean(0))
    np.testing.assert_allclose(kabsch(points, target)[0], expected.as_matrix(), atol=1e-10)


def test_kabsch_never_returns_a_reflection():
    for seed in range(50):
        points = np.random.default_rng(seed).normal(size=(10, 3))
        rotation, _ = kabsch(points, points * [1, 1, -1])
        assert np.linalg.det(rotation) == pytest.approx(1, abs=1e-12)


def test_closest_points_turn_a_hippocampus_back_and_do_not_scale(shared):
    path = shared("msd_hippocampus") / "labelsTr" / "hippocampus_001.nii.gz"
    reference = mask_to_mesh(np.asarray(nibabel.load(path).dataobj), (1, 1, 1))
    turn = Rotation.from_euler("xyz", [8, -9, 9], degrees=True)
    assert np.degrees(turn.magnitude()) == pytest.approx(15, abs=0.6)
    turned = reference.with_vertices(turn.apply(reference.vertices) + np.array([30, -20, 10]))
    back, _ = kabsch(register_rigid(turned, reference).vertices, reference.vertices)
    assert np.degrees(Rotation.from_matrix(back).magnitude()) < 0.5
    larger = turned.with_vertices(1.05 * turned.vertices)
    assert mesh_volume(register_rigid(larger, reference)) == pytest.approx(1.05**3 * mesh_volume(reference), rel=1e-9)


def test_a_mesh_on_its_reference_stays_there(ellipsoid):
    mesh = ellipsoid()
    np.testing.assert_allclose(
        register_rigid(mesh, Mesh(mesh.vertices, mesh.faces)).vertices, mesh.vertices, atol=1e-12
    )
