"""Finds the files that a manifest names."""

from pathlib import Path

from reticent.data.files import READABLE_SUFFIXES
from reticent.data.surfaces.mesh_files import MESH_SUFFIXES
from reticent.errors import InputError

_SUFFIXES = (*READABLE_SUFFIXES, *MESH_SUFFIXES)


def find_image(manifest: Path, row: int, name: str) -> Path:
    """The image `name`, relative to the manifest's folder, then to `images/`; a missing suffix is supplied.

    Raises InputError with the row and the path if there is none.
    """
    for folder in (manifest.parent, manifest.parent / "images"):
        for candidate in _spellings(folder / name):
            if candidate.is_file():
                return candidate
    raise InputError(
        f"{manifest}, row {row}: no file {manifest.parent / name} (nor in images/); correct or remove the row"
    )


def find_mask(manifest: Path, row: int, name: str, image: Path) -> Path:
    """The mask `name`, relative to the manifest's folder, then to `masks/`, where its suffix may differ.

    The suffix may differ so that a column of image names can name the masks too; `image` itself is never its mask.
    Raises InputError with the row and the path if there is none.
    """
    masks = manifest.parent / "masks" / name
    stem = masks.parent / _without_suffix(masks.name)
    for candidate in (*_spellings(manifest.parent / name), *_spellings(masks), *_spellings(stem)):
        if candidate != image and candidate.is_file():
            return candidate
    raise InputError(
        f"{manifest}, row {row}: no mask {manifest.parent / name} (nor in masks/); correct or remove the row"
    )


def _without_suffix(name: str) -> str:
    for suffix in _SUFFIXES[::-1]:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def _spellings(path: Path) -> list[Path]:
    if path.name.lower().endswith(_SUFFIXES):
        return [path]
    return [path.with_name(path.name + suffix) for suffix in _SUFFIXES]
