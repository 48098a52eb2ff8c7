import numpy as np
import pytest

from reticent.data.surfaces import as_surface, decimate, mask_to_mesh, mesh_area, mesh_volume
from reticent.errors import InputError

VOLUMES = {10: 0.990, 20: 0.996, 30: 0.999}
"""Of the surface of a voxel ball over that of the ball, as measured by others."""


@pytest.mark.parametrize("radius", VOLUMES)
def test_surfaces_of_voxel_balls_have_the_known_volume_and_the_area_of_a_staircase(ball, radius):
    mesh = mask_to_mesh(ball(radius), (1, 1, 1))
    assert mesh_volume(mesh) / (4 / 3 * np.pi * radius**3) == pytest.approx(VOLUMES[radius], abs=0.002)
    assert 1.08 < mesh_area(mesh) / (4 * np.pi * radius**2) < 1.095


@pytest.mark.parametrize(("radius", "area", "volume"), [(10, 0.976, 0.960), (20, 0.995, 0.988), (30, 1.000, 0.996)])
def test_a_gaussian_before_makes_areas_right_and_loses_volume(ball, radius, area, volume):
    mesh = mask_to_mesh(ball(radius), (1, 1, 1), smooth="gaussian")
    assert mesh_area(mesh) / (4 * np.pi * radius**2) == pytest.approx(area, abs=0.002)
    assert mesh_volume(mesh) / (4 / 3 * np.pi * radius**3) == pytest.approx(volume, abs=0.002)


def test_taubin_smooths_the_area_and_keeps_the_volume(ball):
    plain, smooth = mask_to_mesh(ball(20), (1, 1, 1)), mask_to_mesh(ball(20), (1, 1, 1), smooth="taubin")
    assert mesh_volume(smooth) == pytest.approx(mesh_volume(plain), rel=1e-3)
    assert mesh_area(smooth) / (4 * np.pi * 400) == pytest.approx(1, abs=0.02)


def test_spacing_gives_millimetres_and_the_first_voxel_is_the_origin(ball):
    mesh = mask_to_mesh(ball(10), (2, 1, 0.5))
    np.testing.assert_allclose(mesh.vertices.mean(0), [24, 12, 6], atol=1e-6)
    assert mesh_volume(mesh) == pytest.approx(mesh_volume(mask_to_mesh(ball(10), (1, 1, 1))), rel=1e-5)


def test_a_mask_at_the_border_is_closed_and_the_largest_part_is_kept():
    mask = np.zeros((8, 8, 8))
    mask[:5], mask[7, 7, 7] = 2, 1
    mesh = mask_to_mesh(mask, (1, 1, 1))
    assert mesh.vertices[:, 0].max() == pytest.approx(4.5)
    assert mesh_volume(mesh) == pytest.approx(5 * 8 * 8, rel=0.08)  # corners are cut


@pytest.mark.parametrize("mask", [np.zeros((5, 5, 5)), np.ones((5, 5)), np.ones((1, 5, 5))])
def test_masks_without_a_surface_are_refused_by_name(mask):
    with pytest.raises(InputError, match=r"case_3\.nii: .*(empty|three dimensions)"):
        mask_to_mesh(mask, (1, 1, 1), name="case_3.nii")


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e3])
def test_decimation_keeps_the_volume_and_the_closed_surface_in_any_unit(ball, unit):
    mesh = mask_to_mesh(ball(20), (unit, unit, unit))
    small = decimate(mesh, 2000)
    assert 1900 < len(small.faces) <= 2000 < len(mesh.faces)
    assert mesh_volume(small) == pytest.approx(mesh_volume(mesh), rel=0.02)
    assert len(as_surface(small, "still closed").faces) == len(small.faces)
    assert decimate(small, 2000) is small
