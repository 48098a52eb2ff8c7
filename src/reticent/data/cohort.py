"""The one value type of all cohorts: entries known without pixels, and records decoded on demand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from reticent.errors import InputError

Role = Literal["train", "held-out", "public", "unlabelled"]
Task = Literal["binary", "multi-class", "multi-label", "segmentation", "detection", "regression", "restoration"]
DECODED_TARGETS: frozenset[Task] = frozenset({"segmentation", "detection", "restoration"})
"""Tasks whose targets are decoded with the pixels, or are the pixels; those of others are the entries' labels."""

SPLIT_ROLES: dict[str, Role] = {
    "train": "train", "val": "held-out", "test": "held-out", "public": "public", "unlabelled": "unlabelled",
}  # fmt: skip
_SPLIT_ALIASES = {
    "training": "train",
    "valid": "val",
    "validation": "val",
    "testing": "test",
    "unlabeled": "unlabelled",
}


def canonical_split(name: str) -> str | None:
    """The split that `name` stands for ("Validation" -> "val"), or None if it stands for none."""
    lowered = name.lower()
    split = _SPLIT_ALIASES.get(lowered, lowered)
    return split if split in SPLIT_ROLES else None


@dataclass(frozen=True)
class Record:
    """One decoded record: channel-first float32 inputs, integer or float32 targets, and attributes of the subject.

    `inputs` maps a name to an array (C, H, W) or (C, D, H, W), of a surface (C, n) (`reticent.data.surfaces`), or to
    a vector of markers. `targets` is empty if the record is unlabelled, else holds "label" (int64 scalar, or float32
    (n,) of several labels or of a regression's targets), "mask" (int64, the spatial shape), or "boxes" and "objects"
    (see `BoxReader`).
    """

    subject: str
    inputs: Mapping[str, np.ndarray]
    targets: Mapping[str, np.ndarray]
    attributes: Mapping[str, str]
    spacing: tuple[float, ...] | None = None
    """Size of a pixel or voxel along each spatial axis in mm, where the file tells."""


@dataclass(frozen=True)
class LeftOut:
    """Something at a cohort's address that is no record of it, and why; `details` are for a table."""

    key: str
    reason: str
    details: Mapping[str, str]


@dataclass(frozen=True)
class Entry:
    """What is known of a record without reading pixels.

    `key` is unique and stable inside the cohort; `label` is a class index, a multi-hot tuple, a tuple of a regression's
    targets, or None (unlabelled, or targets that are decoded with the pixels); `split` is None where the split is still
    to be drawn; `locator` belongs to the cohort's reader.
    """

    key: str
    subject: str | None
    split: str | None
    label: int | tuple[float, ...] | None
    attributes: Mapping[str, str]
    locator: Any


class Reader(Protocol):
    """What a cohort asks of its reader, given an entry's locator; each method raises InputError naming the file."""

    def shape(self, locator: Any) -> tuple[int, ...]:
        """Spatial shape, from the header only."""

    def spacing(self, locator: Any) -> tuple[float, ...] | None:
        """Size of a pixel or voxel along each decoded axis in mm, from the header; None where it tells none."""

    def decode(self, locator: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Channel-first float32 inputs (8-bit image formats scaled to [0, 1]), and what targets are stored with them.

        "mask": int64, of the spatial shape; "boxes" and "objects": see `BoxReader`.
        """

    def digest(self, locator: Any) -> bytes:
        """SHA-256 of the stored bytes of the image."""

    def stamp(self, locator: Any) -> str:
        """Changes when the stored bytes change: sizes and modification times."""


@dataclass(frozen=True)
class Cohort:
    """A set of records with their subjects, labels and given splits; pixels are read only by `load`.

    `classes` names the classes, the labels of a multi-label task, the mask labels with the background first, what is
    restored, or the targets of a regression, whose declared `ranges` (least and largest value, in the target's unit) go
    with them; `channels` gives the number of channels of each input, or the length of a vector; `ndim` is the number of
    spatial dimensions, 2 or 3, of surfaces 1.
    `left_out` lists what the address holds beside the records; `remarks` what its owner should look at, by title;
    `subject_remedy` says where subjects come from.
    """

    uri: str
    name: str
    task: Task
    classes: tuple[str, ...]
    entries: Sequence[Entry]
    channels: Mapping[str, int]
    ndim: int
    has_subjects: bool
    reader: Reader
    citation: str | None = None
    licence: str | None = None
    left_out: Sequence[LeftOut] = ()
    remarks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    subjects_assumed: str | None = None
    """What is taken for granted about who the subjects are."""
    subject_remedy: str = "name the column that tells patients apart"
    ranges: tuple[tuple[float, float], ...] = ()
    guided: bool = False
    """Masks that lie beside labels are targets too, as foreground; a record may have either alone."""

    def shape(self, i: int) -> tuple[int, ...]:
        """Spatial shape of record `i`, from its header."""
        return self.reader.shape(self.entries[i].locator)

    def digest(self, i: int) -> bytes:
        """SHA-256 of the stored bytes of the image of record `i`, without its label."""
        return self.reader.digest(self.entries[i].locator)

    def stamp(self, i: int) -> str:
        """A text that changes when the stored bytes of record `i` change (sizes and modification times)."""
        return self.reader.stamp(self.entries[i].locator)

    def load(self, i: int) -> Record:
        """Decode record `i`.

        Raises InputError naming the file if it is unreadable or truncated, holds NaN or infinite values, is a volume of
        one slice, or if its channels or mask do not fit.
        """
        entry = self.entries[i]
        inputs, stored = self.reader.decode(entry.locator)
        for name, array in inputs.items():
            if len(array) != self.channels[name]:
                raise InputError(
                    f"{entry.key}: {len(array)} channels, but the cohort's first record has {self.channels[name]}; "
                    "convert it or leave it out"
                )
            if array.ndim == 4 and min(array.shape[1:]) < 2:
                raise InputError(
                    f"{entry.key}: one slice only ({' x '.join(map(str, array.shape[1:]))}); a volume needs two: leave "
                    "it out, or store a flat image as PNG"
                )
            if array.ndim > 1 and not np.isfinite(array).all():
                raise InputError(f"{entry.key}: the image holds NaN or infinite values; repair it or leave it out")
        targets, spacing = self._targets(entry, inputs, stored), self.reader.spacing(entry.locator)
        return Record(entry.subject or entry.key, inputs, targets, entry.attributes, spacing)

    def mask(self, i: int) -> np.ndarray | None:
        """The mask that lies beside record `i`, whatever the task; None if there is none.

        Raises InputError as `load` does.
        """
        inputs, stored = self.reader.decode(self.entries[i].locator)
        if "mask" not in stored:
            return None
        _check_mask(self.entries[i].key, stored["mask"], next(iter(inputs.values())).shape[1:], None)
        return stored["mask"]

    @property
    def masks_alone(self) -> list[str]:
        """Keys of the records with a mask and no label, which were not given as unlabelled, of a task with labels."""
        if self.task in DECODED_TARGETS:
            return []
        return [entry.key for entry in self.entries if entry.label is None and entry.split != "unlabelled"]

    def labels(self, entries: Sequence[Entry]) -> np.ndarray:
        """The labels of entries: int64 (n,) with -1 for none, of several labels or targets float32 (n, labels)."""
        found = [-1 if entry.label is None else entry.label for entry in entries]
        if self.task in ("multi-label", "regression"):
            return np.asarray(found, np.float32).reshape(len(found), len(self.classes))
        return np.asarray(found, np.int64)

    def _targets(
        self, entry: Entry, inputs: Mapping[str, np.ndarray], stored: Mapping[str, np.ndarray]
    ) -> Mapping[str, np.ndarray]:
        spatial = next(iter(inputs.values())).shape[1:]
        if self.task == "restoration":
            return {}
        if self.task not in DECODED_TARGETS:
            label = {} if entry.label is None else {"label": self.labels([entry])[0]}
            if not self.guided or "mask" not in stored:
                return label
            _check_mask(entry.key, stored["mask"], spatial, None)
            return {**label, "mask": (stored["mask"] > 0).astype(np.int64)}
        if "mask" in stored:
            _check_mask(entry.key, stored["mask"], spatial, self.classes)
        return stored


def _check_mask(key: str, mask: np.ndarray, spatial: tuple[int, ...], labels: Sequence[str] | None) -> None:
    """Raise InputError for a mask on another grid, or with values that are no `labels`."""
    if mask.shape != spatial:
        raise InputError(f"{key}: the mask has shape {mask.shape}, the image {spatial}; they must lie on the same grid")
    if labels is not None and (mask.min() < 0 or mask.max() >= len(labels)):
        raise InputError(
            f"{key}: the mask holds values {mask.min()} to {mask.max()}, but the labels are "
            f"0 to {len(labels) - 1} ({', '.join(labels)})"
        )
