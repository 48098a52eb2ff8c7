"""Meshes in files: PLY, OBJ, STL and OFF by trimesh, VTK by its own library, NPZ by NumPy; PLY is written too."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from reticent.data.surfaces.mesh import Mesh, as_surface, merged
from reticent.errors import InputError, first_line

_TRIMESH_SUFFIXES = (".ply", ".obj", ".stl", ".off")
_VTK_SUFFIXES = (".vtk", ".vtp")
MESH_SUFFIXES = (*_TRIMESH_SUFFIXES, *_VTK_SUFFIXES, ".npz")


def is_mesh(path: Path) -> bool:
    """Whether the file name ends as those of meshes do."""
    return path.name.lower().endswith(MESH_SUFFIXES)


def read_surface(path: Path) -> Mesh:
    """The largest part of the mesh in a file, closed and facing outwards; several parts of a file are one mesh.

    Faces of more than three corners are cut into triangles, vertices at one place are one. Raises InputError naming the
    file if it is unreadable, without faces, or no closed surface (`as_surface`).
    """
    suffix = path.suffix.lower()
    try:
        if suffix in _VTK_SUFFIXES:
            vertices, faces = _read_vtk(path)
        elif suffix == ".npz":
            vertices, faces = _read_npz(path)
        else:
            vertices, faces = _read_by_trimesh(path)
    except InputError:
        raise
    except Exception as error:  # whatever a parser may raise on a broken file
        raise InputError(
            f"{path}: not a readable mesh ({first_line(error)}); replace the file or leave it out"
        ) from error
    mesh = Mesh(np.asarray(vertices, np.float64).reshape(-1, 3), np.asarray(faces, np.int64).reshape(-1, 3))
    broken = not np.isfinite(mesh.vertices).all() or mesh.faces.max(initial=-1) >= len(mesh.vertices)
    return as_surface(mesh if broken else merged(mesh), str(path))


def write_ply(path: Path, mesh: Mesh, values: dict[str, np.ndarray]) -> None:
    """Write a mesh with named float32 values (V,) of its vertices as PLY, as viewers of meshes colour them."""
    from trimesh.exchange.ply import export_ply

    made = mesh.to_trimesh()
    made.vertex_attributes.update({name: np.asarray(value, np.float32) for name, value in values.items()})
    path.write_bytes(export_ply(made, vertex_normal=False))


def _read_by_trimesh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    mesh = trimesh.load_mesh(path, process=False)
    if not isinstance(mesh, trimesh.Trimesh):
        raise InputError(f"{path}: an empty mesh, without faces; replace it or leave it out")
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


def _read_vtk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        from vtkmodules.util.numpy_support import vtk_to_numpy
        from vtkmodules.vtkFiltersCore import vtkTriangleFilter
        from vtkmodules.vtkFiltersGeometry import vtkGeometryFilter
        from vtkmodules.vtkIOLegacy import vtkGenericDataObjectReader
        from vtkmodules.vtkIOXML import vtkXMLPolyDataReader
    except ImportError:
        raise InputError(f"{path}: VTK files need VTK; install reticent[vtk], or convert the file to PLY") from None
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    reader = vtkGenericDataObjectReader() if path.suffix.lower() == ".vtk" else vtkXMLPolyDataReader()
    said: list[str] = []
    reader.AddObserver("ErrorEvent", lambda *_: said.append("VTK refuses it"))  # type: ignore[arg-type]  # takes names too
    reader.SetFileName(str(path))
    surface, triangles = vtkGeometryFilter(), vtkTriangleFilter()
    surface.SetInputConnection(reader.GetOutputPort())
    triangles.SetInputConnection(surface.GetOutputPort())
    reader.Update()
    if said or reader.GetOutput() is None:
        raise ValueError("VTK refuses it")
    triangles.PassLinesOff()
    triangles.PassVertsOff()
    triangles.Update()
    found = triangles.GetOutput()
    if not found.GetNumberOfPolys():
        return np.empty((0, 3)), np.empty((0, 3))
    corners = vtk_to_numpy(found.GetPolys().GetConnectivityArray())
    return vtk_to_numpy(found.GetPoints().GetData()), corners


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path) as stored:
        if not {"vertices", "faces"} <= set(stored.files):
            raise InputError(f"{path}: a mesh as NPZ has vertices (V, 3) and faces (F, 3); store these arrays")
        return stored["vertices"], stored["faces"]


def is_npz_of(path: Path, names: set[str]) -> bool:
    """Whether an NPZ file holds arrays of these names; False for what is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return names <= {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return False
