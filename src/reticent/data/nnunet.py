"""Dataset folders of nnU-Net (Isensee et al., 2021): `dataset.json`, and one file a channel: `CASE_0000.nii.gz` …"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reticent.data.case_subjects import with_subjects
from reticent.data.cohort import Cohort, Entry, LeftOut
from reticent.data.files import (
    READABLE_SUFFIXES,
    FileLocator,
    FileReader,
    distance_of_grids,
    mask_on_grid,
    read_header,
)
from reticent.data.images import decode_image, decode_label_image
from reticent.data.nifti import decode_nifti, is_nifti, read_nifti_spacing
from reticent.errors import InputError

_CHANNEL = re.compile(r"(?P<case>[^.].*)_\d{4}(" + "|".join(map(re.escape, READABLE_SUFFIXES)) + ")")


@dataclass(frozen=True)
class ChannelLocator:
    """The file of each channel of one case, and its mask."""

    images: tuple[Path, ...]
    mask: Path


@dataclass(frozen=True)
class ChannelReader:
    """Stacks files of one channel each."""

    def shape(self, locator: ChannelLocator) -> tuple[int, ...]:
        return read_header(locator.images[0])[0]

    def spacing(self, locator: ChannelLocator) -> tuple[float, ...] | None:
        first = locator.images[0]
        return read_nifti_spacing(first) if is_nifti(first) else None

    def decode(self, locator: ChannelLocator) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        first, *others = locator.images
        image, affine = _channel(first)
        channels = [image]
        for path in others:
            channel, own = _channel(path)
            if channel.shape != image.shape or (
                affine is not None and own is not None and distance_of_grids(affine, own, image.shape[1:])
            ):
                raise InputError(f"{path}: lies on another grid than {first.name}; resample one to the other")
            channels.append(channel)
        if affine is None:
            return {"image": np.concatenate(channels)}, {"mask": decode_label_image(locator.mask)}
        return {"image": np.concatenate(channels)}, mask_on_grid(locator.mask, image.shape[1:], affine)

    def digest(self, locator: ChannelLocator) -> bytes:
        parts = [FileReader(1).digest(FileLocator(path)) for path in locator.images]
        return hashlib.sha256(b"".join(parts)).digest()

    def stamp(self, locator: ChannelLocator) -> str:
        return " ".join(FileReader(1).stamp(FileLocator(path)) for path in (*locator.images, locator.mask))


def _channel(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """One channel (1, ...), and the canonical affine of a NIfTI file."""
    return decode_nifti(path) if is_nifti(path) else (decode_image(path, 1), None)


def is_nnunet(uri: str) -> bool:
    """Whether a folder has a `dataset.json`, and images named as nnU-Net names them."""
    return (Path(uri) / "dataset.json").is_file() and bool(_cases(Path(uri) / "imagesTr"))


def open_nnunet(uri: str) -> Cohort:
    """Open a dataset of nnU-Net's raw folder; the channels are those of each case's files.

    The subject is the case, or who `subjects.csv` says. Cases of imagesTr are split as any cohort; those of imagesTs
    are the test split if labelsTs has their masks, and left out otherwise. Raises InputError for a `dataset.json` of
    another form, labels by region or to be ignored, and a case without its mask or with other channels.
    """
    root = Path(uri)
    description = root / "dataset.json"
    try:
        dataset = json.loads(description.read_text("utf-8"))
        names = dataset.get("channel_names") or dataset["modality"]
        classes, count = _classes(dataset["labels"]), len(names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{description}: not of the nnU-Net form ({error!r}); it needs channel_names and labels, numbered 0, 1, 2 …"
        ) from error
    entries = _entries(root, "Tr", None, count)
    waiting = _cases(root / "imagesTs")
    left_out = [
        LeftOut(f"imagesTs/{case}", "a test image without a mask", {"first file": paths[0].name})
        for case, paths in waiting.items()
        if _mask(root / "labelsTs", case, paths[0]) is None
    ]
    if len(left_out) < len(waiting):
        missing = {each.key.removeprefix("imagesTs/") for each in left_out}
        entries += _entries(root, "Ts", "test", count, missing)
    entries, assumed = with_subjects(root, entries)
    spatial, _ = read_header(entries[0].locator.images[0])
    return Cohort(
        uri, str(dataset.get("name", root.resolve().name)), "segmentation", classes, entries, {"image": count},
        len(spatial), True, ChannelReader(), dataset.get("reference"), dataset.get("licence"), left_out=left_out,
        subjects_assumed=assumed,
    )  # fmt: skip


def _classes(labels: Mapping[str, Any]) -> tuple[str, ...]:
    """Label names by number, from names to numbers (version 2) or numbers to names (version 1)."""
    if any(isinstance(number, list) for number in labels.values()) or "ignore" in labels:
        raise ValueError("labels by region, or to be ignored, are not read")
    by_number = all(str(name).isdecimal() for name in labels)
    named = {int(name): str(label) for name, label in labels.items()} if by_number else {
        int(number): str(name) for name, number in labels.items()
    }  # fmt: skip
    if sorted(named) != list(range(len(labels))):
        raise ValueError(f"labels are numbered {sorted(named)}")
    return tuple(named[number] for number in sorted(named))


def _entries(root: Path, part: str, split: str | None, count: int, without: Collection[str] = ()) -> list[Entry]:
    entries = []
    for case, paths in _cases(root / f"images{part}").items():
        if case in without:
            continue
        mask = _mask(root / f"labels{part}", case, paths[0])
        if mask is None:
            raise InputError(f"{root / f'labels{part}'}: no mask of {case}; add it or remove the images")
        numbers = [int(path.name[len(case) + 1 :][:4]) for path in paths]
        if numbers != list(range(count)):
            found = ", ".join(map(str, numbers))
            raise InputError(
                f"{paths[0]}: channels {found}, but dataset.json names {count} (from 0); add or remove files"
            )
        entries.append(Entry(f"images{part}/{case}", case, split, None, {}, ChannelLocator(tuple(paths), mask)))
    return entries


def _cases(folder: Path) -> dict[str, list[Path]]:
    """The files of each case, in the order of its channels."""
    cases: defaultdict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.glob("*")):
        if (found := _CHANNEL.fullmatch(path.name)) is not None:
            cases[found["case"]].append(path)
    return dict(cases)


def _mask(folder: Path, case: str, image: Path) -> Path | None:
    mask = folder / (case + image.name[len(case) + len("_0000") :])
    return mask if mask.is_file() else None
