"""Folder-per-class images: ROOT/CLASS/image, or ROOT/SPLIT/CLASS/image with splits named train, val, test …"""

from pathlib import Path

from reticent.data.cohort import Cohort, Entry, Task, canonical_split
from reticent.data.files import READABLE_SUFFIXES, FileLocator, FileReader, read_header
from reticent.errors import InputError


def open_folder(uri: str) -> Cohort:
    """Open a folder whose sub-folders are classes, or splits that hold classes; such a cohort has no subjects.

    Files directly in a split folder "unlabelled" have no class. Raises InputError for an empty split, a folder that is
    neither, and a folder without images.
    """
    root = Path(uri)
    for manifest in sorted(root.glob("manifest.*")):
        raise InputError(f"{root}: holds {manifest.name}; name that file instead of its folder")
    for description in sorted(root.glob("*/dataset.json")):
        raise InputError(f"{root}: holds data sets (as {description.parent.name}); name one of these folders")
    splits = _split_folders(root)
    folders = [
        (split, folder) for split, top in splits for folder in ([top] if split == "unlabelled" else _folders(top))
    ]
    classes = tuple(sorted({folder.name for split, folder in folders if split != "unlabelled"}))
    entries = []
    for split, folder in folders:
        for path in images_in(folder):
            label = None if split == "unlabelled" else classes.index(folder.name)
            entries.append(Entry(path.relative_to(root).as_posix(), None, split, label, {}, FileLocator(path)))
    if not entries:
        raise InputError(
            f"{root}: no images in sub-folders; expected {root.name}/CLASS/image.png, a manifest (.csv) or dataset.json"
        )
    found = {entry.split for entry in entries}
    for split, top in splits:
        if split not in found:
            raise InputError(f"{top}: the split is empty; fill it with CLASS/image files or remove the folder")
    spatial, channels = read_header(entries[0].locator.image)
    task: Task = "binary" if len(classes) == 2 else "multi-class"
    return Cohort(
        uri, root.resolve().name, task, classes, entries, {"image": channels}, len(spatial), False, FileReader(channels)
    )


def _split_folders(root: Path) -> list[tuple[str | None, Path]]:
    folders = _folders(root)
    splits = [canonical_split(folder.name) for folder in folders]
    if not any(splits):
        return [(None, root)]
    for folder, split in zip(folders, splits, strict=True):
        if split is None:
            raise InputError(
                f"{folder}: not a split name, but its neighbours are; use train, val, test, public or unlabelled"
            )
    return list(zip(splits, folders, strict=True))


def _folders(parent: Path) -> list[Path]:
    return sorted(child for child in parent.iterdir() if child.is_dir() and not child.name.startswith((".", "__")))


def images_in(folder: Path, suffixes: tuple[str, ...] = READABLE_SUFFIXES) -> list[Path]:
    """All image files (or files of other suffixes) in a folder and below, sorted; hidden ones are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.name.lower().endswith(suffixes) and not path.name.startswith(".") and path.is_file()
    )
