"""The surfaces behind an address, for prediction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from reticent.data import SurfaceOptions
    from reticent.data.surfaces import Mesh
    from reticent.training import Predictor


def read_surfaces(
    predictor: Predictor, options: SurfaceOptions, address: str, columns: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, np.ndarray], Mesh]]:
    """Name, input and mesh of each: of files, folders, a manifest, an archive, or `surfaces:ADDRESS`."""
    from reticent.data import MESH_SUFFIXES, image_files, open_cohort
    from reticent.data.surfaces import is_bundle, read_surface

    preparation = options.preparation()
    if address.startswith("surfaces:") or is_bundle(address):
        cohort = open_cohort(address, surfaces=options, unit="record", strict=False, hashed=False)
        found = [(entry.key, entry.locator.surface) for entry in cohort.entries]
    else:
        found = [(name, partial(read_surface, path)) for name, path in image_files(address, columns, MESH_SUFFIXES)]
    for name, read in found:
        mesh = read()
        yield name, {predictor.input_name: preparation.pack(mesh, name)}, mesh
