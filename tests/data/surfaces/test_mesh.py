import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.data.surfaces import Mesh, area_normals, as_surface, mesh_area, mesh_volume
from reticent.data.surfaces.mesh import directed_edges, largest_part, merged
from reticent.errors import InputError

CUBE = Mesh(
    np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float64),
    np.array(
        [
            [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6],
            [0, 6, 4], [1, 5, 7], [1, 7, 3],
        ]
    ),
)  # fmt: skip


def test_a_cube_has_its_volume_and_area_and_the_faces_tell_inside_from_outside():
    assert mesh_volume(CUBE) == pytest.approx(1, abs=1e-15)
    assert mesh_area(CUBE) == pytest.approx(6, abs=1e-15)
    assert mesh_volume(Mesh(CUBE.vertices, CUBE.faces[:, ::-1])) == pytest.approx(-1, abs=1e-15)


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3), st.floats(0.1, 10))
def test_volume_does_not_depend_on_the_place_and_grows_with_the_cube_of_the_size(shift, factor):
    moved = CUBE.with_vertices(CUBE.vertices * factor + shift)
    assert mesh_volume(moved) == pytest.approx(factor**3, rel=1e-9)


def test_translation_leaves_the_volume_of_a_body_to_a_billionth(ellipsoid):
    mesh = ellipsoid(seed=1)
    shifted = mesh.with_vertices(mesh.vertices + np.array([5, -7, 11]))
    assert mesh_volume(shifted) == pytest.approx(mesh_volume(mesh), rel=1e-9)


def test_area_normals_point_outwards_sum_to_nothing_and_have_the_area_of_the_surface(ellipsoid):
    mesh = ellipsoid()
    normals = area_normals(mesh)
    np.testing.assert_allclose(normals.sum(0), 0, atol=1e-12)
    assert ((normals * mesh.vertices).sum(1) > 0).all()
    assert np.linalg.norm(normals, axis=1).sum() == pytest.approx(mesh_area(mesh), rel=0.01)
    # the volume is the flux of x / 3
    assert (normals * mesh.vertices).sum() / 3 == pytest.approx(mesh_volume(mesh), rel=1e-9)


def test_every_edge_of_a_closed_surface_stands_in_both_directions(ellipsoid):
    edges = directed_edges(ellipsoid())
    assert len(edges) == 3 * len(ellipsoid().faces)
    assert {tuple(e) for e in edges} == {tuple(e[::-1]) for e in edges}
    assert (np.diff(edges[:, 0]) >= 0).all()


def test_a_surface_facing_inwards_is_turned_and_smaller_parts_are_left_out(ellipsoid):
    large, small = ellipsoid(), ellipsoid(subdivisions=1)
    both = Mesh(
        np.concatenate([small.vertices + 9, large.vertices]),
        np.concatenate([small.faces, large.faces[:, ::-1] + len(small.vertices)]),
    )
    found = as_surface(both, "two")
    np.testing.assert_array_equal(found.vertices, large.vertices)
    assert mesh_volume(found) == pytest.approx(mesh_volume(large))
    assert len(largest_part(both).faces) == len(large.faces)


def test_two_sheets_that_touch_along_an_edge_are_closed():
    """Two tetrahedra with one common edge: it is passed twice in each direction."""
    vertices = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 1, 0], [-1, 0, 0], [-1, -1, 0]], np.float64)

    def tetrahedron(a, b, c, d):
        return [[a, c, b], [a, b, d], [b, c, d], [a, d, c]]

    mesh = Mesh(vertices, np.array(tetrahedron(0, 1, 2, 3) + tetrahedron(0, 1, 4, 5)))
    assert mesh_volume(as_surface(mesh, "touching")) == pytest.approx(1 / 3)


def test_merging_closes_a_soup_of_triangles():
    soup = Mesh(CUBE.vertices[CUBE.faces].reshape(-1, 3), np.arange(36).reshape(-1, 3))
    with pytest.raises(InputError, match="not closed"):
        as_surface(soup, "soup")
    assert mesh_volume(as_surface(merged(soup), "soup")) == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v, f: (v, f[:0]), "empty mesh"),
        (lambda v, f: (v[:0], f[:0]), "empty mesh"),
        (lambda v, f: (np.where(v == v[3], np.nan, v), f), "NaN or infinite"),
        (lambda v, f: (v, f + 3), "beyond the 8"),
        (lambda v, f: (v, f[1:]), "not closed: 3 of its edges"),
        (lambda v, f: (v, np.concatenate([f, [[0, 1, 7]]])), "not closed"),  # edges with three faces
        (lambda v, f: (v, np.concatenate([f[:1, ::-1], f[1:]])), "not closed"),  # one face turned
        (lambda v, f: (v * 0, f), "area of zero"),
        (lambda v, f: (v, f[:, [0, 0, 1]]), "area of zero"),
        (lambda v, f: (v * [1, 1, 0], f), "no volume"),
    ],
)
def test_what_is_no_surface_is_refused_with_its_name_and_the_remedy(change, said):
    with pytest.raises(InputError, match=rf"(?s)patient-7\.ply: .*{said}.*(leave it out|replace the file)"):
        as_surface(Mesh(*change(CUBE.vertices, CUBE.faces)), "patient-7.ply")
