"""Folders of the Medical Segmentation Decathlon (Antonelli et al., 2022): `dataset.json`, NIfTI images and masks."""

import json
from pathlib import Path
from typing import Any

from reticent.data.case_subjects import with_subjects
from reticent.data.cohort import Cohort, Entry
from reticent.data.files import FileLocator, FileReader
from reticent.data.nifti import read_nifti_header
from reticent.errors import InputError


def is_msd(uri: str) -> bool:
    """Whether a folder has a `dataset.json`."""
    return (Path(uri) / "dataset.json").is_file()


def open_msd(uri: str) -> Cohort:
    """Open the labelled cases of an MSD folder; the subject is the case, several modalities are channels.

    The official test images have no masks and are left out. Raises InputError for a `dataset.json` of another form and
    for missing or repeated files.
    """
    root = Path(uri)
    description = root / "dataset.json"
    try:
        dataset = json.loads(description.read_text("utf-8"))
        labels = {int(number): str(name) for number, name in dataset["labels"].items()}
        cases = [(str(case["image"]), str(case["label"])) for case in dataset["training"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{description}: not of the MSD form ({error!r}); "
            'it needs "labels" by number and "training" with image and label'
        ) from error
    if sorted(labels) != list(range(len(labels))) or not cases:
        raise InputError(
            f"{description}: labels must be numbered 0, 1, 2 … and at least one case listed under training"
        )
    entries = [_entry(root, image, label) for image, label in cases]
    _refuse_repeats(description, entries)
    entries, assumed = with_subjects(root, entries)
    _, channels = read_nifti_header(entries[0].locator.image)
    classes = tuple(labels[number] for number in sorted(labels))
    return Cohort(
        uri, str(dataset.get("name", root.resolve().name)), "segmentation", classes, entries, {"image": channels}, 3,
        True, FileReader(channels), _text(dataset, "reference"), _text(dataset, "licence"),
        subjects_assumed=assumed,
    )  # fmt: skip


def _entry(root: Path, image: str, label: str) -> Entry:
    for path in (root / image, root / label):
        if not path.is_file():
            raise InputError(
                f"{root / 'dataset.json'}: names {path.relative_to(root)}, which does not exist; add or unlist it"
            )
    case = Path(image).name.removesuffix(".gz").removesuffix(".nii")
    return Entry(Path(image).as_posix(), case, None, None, {}, FileLocator(root / image, root / label))


def _refuse_repeats(description: Path, entries: list[Entry]) -> None:
    seen = set()
    for entry in entries:
        if entry.key in seen:
            raise InputError(f"{description}: lists {entry.key} twice; remove one")
        seen.add(entry.key)


def _text(dataset: dict[str, Any], field: str) -> str | None:
    return str(dataset[field]) if dataset.get(field) else None
