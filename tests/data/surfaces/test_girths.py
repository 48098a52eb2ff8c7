import numpy as np
import pytest
import trimesh

from reticent.data.surfaces import Mesh, Profile, girth_profile, mesh_volume, parse_profile
from reticent.errors import InputError


def test_an_ellipsoid_has_the_girths_of_its_ellipses(ellipsoid):
    mesh = ellipsoid((0.3, 0.2, 0.8), subdivisions=5)
    profile = Profile((0.5, 0.75), 2, ("perimeter", "width", "depth", "area"))
    middle, upper, (height, volume) = np.split(girth_profile(mesh, profile), [4, 8])
    share = np.sqrt(1 - 0.5**2)  # of the half-axes at three quarters of the height
    ramanujan = np.pi * (3 * 0.5 - np.sqrt((3 * 0.3 + 0.2) * (0.3 + 3 * 0.2)))  # of the perimeter, right to 1e-5
    np.testing.assert_allclose(middle, [ramanujan, 0.6, 0.4, np.pi * 0.06], rtol=2e-3)
    np.testing.assert_allclose(upper, np.array([share, share, share, share**2]) * middle, rtol=2e-3)
    assert height == pytest.approx(1.6, rel=1e-3)
    assert volume == mesh_volume(mesh)


def test_the_usual_profile_of_a_body_has_56_numbers_with_names(ellipsoid):
    found = girth_profile(ellipsoid())
    assert found.shape == (56,) == (len(Profile().names),)
    assert Profile().names[0] == "perimeter at 46%"
    assert Profile().names[-2:] == ("height", "volume")


def test_the_widest_part_of_a_cut_is_measured_and_the_area_is_that_of_the_cut():
    trunk = trimesh.creation.cylinder(radius=0.2, height=2, sections=64)
    arm = trimesh.creation.cylinder(radius=0.05, height=2, sections=16)
    arm.apply_translation([0.6, 0, 0])
    body = Mesh(
        np.concatenate([trunk.vertices, arm.vertices]), np.concatenate([trunk.faces, arm.faces + len(trunk.vertices)])
    )
    width, area = girth_profile(body, Profile((0.5,), 2, ("width", "area")))[:2]
    assert width == pytest.approx(0.4, rel=1e-6)
    assert area == pytest.approx(0.2**2 * 32 * np.sin(2 * np.pi / 64), rel=1e-6)  # of a regular polygon of 64 sides


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_cut_areas_along_any_axis_add_up_to_the_volume(ellipsoid, axis):
    mesh = ellipsoid(seed=4, subdivisions=4)
    levels = tuple((np.arange(200) + 0.5) / 200)
    *areas, height, volume = girth_profile(mesh, Profile(levels, axis, ("area",)))
    assert np.mean(areas) * height == pytest.approx(volume, rel=1e-3)


def test_a_profile_is_written_in_a_line():
    assert parse_profile("body") == Profile()
    found = parse_profile("y:0.05-0.95/20")
    assert (found.axis, len(found.levels), found.levels[0], found.levels[-1]) == (1, 20, 0.05, 0.95)
    assert found.measures == ("area",)
    assert parse_profile("z:0.2-0.8/3:width+perimeter").measures == ("width", "perimeter")


@pytest.mark.parametrize("text", ["", "w:0-1/3", "z:0.9-0.1/3", "z:0-2/3", "z:0-1/0", "z:0-1/3:girth", "z:.-1/3"])
def test_another_form_of_a_profile_is_refused(text):
    with pytest.raises(InputError, match="say body, or AXIS:FROM-TO/CUTS"):
        parse_profile(text)
