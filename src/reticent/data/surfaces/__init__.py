"""Surfaces: triangle meshes from files, archives and masks, measured and brought to one shape."""

from reticent.data.surfaces.bundle import is_bundle
from reticent.data.surfaces.girths import Profile, girth_profile, parse_profile
from reticent.data.surfaces.mesh import Mesh, area_normals, as_surface, mesh_area, mesh_volume
from reticent.data.surfaces.mesh_files import MESH_SUFFIXES, is_mesh, read_surface, write_ply
from reticent.data.surfaces.reader import SurfaceOptions
from reticent.data.surfaces.registration import kabsch, register_rigid
from reticent.data.surfaces.remeshing import decimate, mask_to_mesh

__all__ = [
    "MESH_SUFFIXES", "Mesh", "Profile", "SurfaceOptions", "area_normals", "as_surface", "decimate", "girth_profile",
    "is_bundle", "is_mesh", "kabsch", "mask_to_mesh", "mesh_area", "mesh_volume", "parse_profile", "read_surface",
    "register_rigid", "write_ply",
]  # fmt: skip
