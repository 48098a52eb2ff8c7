"""The image files behind an address, for prediction: no labels, splits or subjects are needed."""

from collections.abc import Mapping
from pathlib import Path

from reticent.data.files import READABLE_SUFFIXES
from reticent.data.folder import images_in
from reticent.data.manifest import is_manifest, manifest_images
from reticent.errors import InputError


def image_files(
    address: str, columns: Mapping[str, str], suffixes: tuple[str, ...] = READABLE_SUFFIXES
) -> list[tuple[str, Path]]:
    """Name and path of each image: of a manifest's rows, in a folder and below, or the file itself.

    Raises InputError for a manifest without file column, a missing file, and a folder without files of these suffixes.
    """
    path = Path(address)
    if is_manifest(address):
        return manifest_images(address, columns)
    if not path.is_dir():
        return [(address, path)]
    found = [(str(image), image) for image in images_in(path, suffixes)]
    if not found:
        raise InputError(f"{path}: no files of these kinds in this folder: {', '.join(suffixes)}")
    return found
