import numpy as np
import pytest
import trimesh

from reticent.data.surfaces import mesh_volume, read_surface, write_ply
from reticent.errors import InputError


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".stl", ".off"])
def test_what_trimesh_wrote_is_read_with_its_vertices_and_volume(ellipsoid, tmp_path, suffix):
    mesh = ellipsoid()
    path = tmp_path / f"body{suffix}"
    mesh.to_trimesh().export(path)
    found = read_surface(path)
    assert len(found.vertices) == len(mesh.vertices)
    assert mesh_volume(found) == pytest.approx(mesh_volume(mesh), rel=1e-5)


def test_quadrilaterals_and_several_objects_of_a_file_become_triangles_of_one_mesh(tmp_path):
    corners = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    faces = [(1, 2, 4, 3), (5, 7, 8, 6), (1, 5, 6, 2), (3, 4, 8, 7), (1, 3, 7, 5), (2, 6, 8, 4)]
    lines = [f"v {x} {y} {z}" for x, y, z in corners]
    for k, face in enumerate(faces):
        lines += [f"o side{k}", "usemtl skin", "f " + " ".join(map(str, face))]
    (tmp_path / "cube.obj").write_text("\n".join(lines))
    found = read_surface(tmp_path / "cube.obj")
    assert (len(found.vertices), len(found.faces)) == (8, 12)
    assert mesh_volume(found) == pytest.approx(1)


@pytest.mark.parametrize("suffix", [".vtk", ".vtp"])
def test_polydata_and_grids_of_vtk_are_read(ellipsoid, tmp_path, suffix):
    pytest.importorskip("vtkmodules", reason="reads VTK files (reticent[vtk])")
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
    from vtkmodules.vtkIOLegacy import vtkPolyDataWriter
    from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter

    mesh = ellipsoid()
    points, cells, data = vtkPoints(), vtkCellArray(), vtkPolyData()
    points.SetData(numpy_to_vtk(mesh.vertices, deep=True))
    for face in mesh.faces:
        cells.InsertNextCell(3)
        for corner in face:
            cells.InsertCellPoint(int(corner))
    data.SetPoints(points)
    data.SetPolys(cells)
    writer = vtkPolyDataWriter() if suffix == ".vtk" else vtkXMLPolyDataWriter()
    writer.SetFileName(str(tmp_path / f"body{suffix}"))
    writer.SetInputData(data)
    writer.Write()
    found = read_surface(tmp_path / f"body{suffix}")
    assert mesh_volume(found) == pytest.approx(mesh_volume(mesh), rel=1e-5)


def test_a_mesh_is_read_from_npz_and_other_archives_are_refused(ellipsoid, tmp_path):
    mesh = ellipsoid()
    np.savez(tmp_path / "body.npz", vertices=mesh.vertices, faces=mesh.faces)
    np.testing.assert_array_equal(np.sort(read_surface(tmp_path / "body.npz").vertices, 0), np.sort(mesh.vertices, 0))
    np.savez(tmp_path / "other.npz", images=mesh.vertices)
    with pytest.raises(InputError, match=r"other\.npz: a mesh as NPZ has vertices"):
        read_surface(tmp_path / "other.npz")


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".stl", ".off", ".vtk", ".vtp", ".npz"])
@pytest.mark.parametrize("content", [b"", b"no mesh at all\n", b"ply\nformat ascii 1.0\nelement vertex 9\n", None])
def test_broken_and_missing_files_are_refused_in_one_line(tmp_path, suffix, content):
    path = tmp_path / f"broken{suffix}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"broken\{suffix}") as found:
        read_surface(path)
    assert str(found.value).count("\n") <= 1


def test_a_cloud_of_points_is_an_empty_mesh(tmp_path):
    trimesh.PointCloud(np.random.default_rng(0).random((5, 3))).export(tmp_path / "cloud.ply")
    with pytest.raises(InputError, match=r"cloud\.ply: an empty mesh"):
        read_surface(tmp_path / "cloud.ply")


def test_values_of_vertices_are_written_where_viewers_find_them(ellipsoid, tmp_path):
    mesh = ellipsoid()
    values = np.arange(len(mesh.vertices), dtype=np.float64)
    write_ply(tmp_path / "values.ply", mesh, {"vat_cm2": values})
    found = trimesh.load_mesh(tmp_path / "values.ply", process=False)
    np.testing.assert_array_equal(found.metadata["_ply_raw"]["vertex"]["data"]["vat_cm2"].ravel(), values)
    np.testing.assert_allclose(found.vertices, mesh.vertices, atol=1e-6)
