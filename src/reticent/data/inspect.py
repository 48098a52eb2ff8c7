"""What a cohort holds, and what is wrong with it, before anything is trained."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from reticent.data.burnt_in import text_suspected
from reticent.data.cohort import Cohort, LeftOut, Record
from reticent.data.marker_summary import MarkerSummary, summarise_markers
from reticent.data.markers import Marker
from reticent.data.validation import subjects_in_several_splits
from reticent.errors import InputError


@dataclass(frozen=True)
class SplitSummary:
    """Counts in one split; `labels` counts records per class, of several labels, masks and boxes those that show it.

    Of a regression it counts the records that have each target.
    """

    records: int
    subjects: int
    labels: Mapping[str, int]


@dataclass(frozen=True)
class CohortSummary:
    """The inspection of a cohort.

    `subjects` is None where there are none; `records_per_subject` is (min, median, max). `missing` counts the records
    without a value for each attribute, `overlapping` maps a subject to its several splits, `duplicates` lists the keys
    of identical images that lie in more than one split, and `unreadable` pairs a key with what is wrong.
    `text_suspected` lists the keys of images that seem to show text (`text_suspected`); `left_out` and `remarks` are
    the cohort's.
    """

    records: int
    subjects: int | None
    records_per_subject: tuple[int, float, int] | None
    splits: Mapping[str, SplitSummary]
    shapes: Mapping[tuple[int, ...], int]
    missing: Mapping[str, int]
    overlapping: Mapping[str, tuple[str, ...]]
    duplicates: Sequence[tuple[str, ...]]
    unreadable: Sequence[tuple[str, str]]
    text_suspected: Sequence[str]
    left_out: Sequence[LeftOut]
    remarks: Mapping[str, Sequence[str]]
    markers: Mapping[str, MarkerSummary]


def inspect_cohort(
    cohort: Cohort,
    splits: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
    markers: Sequence[Marker] = (),
) -> CohortSummary:
    """Read every record of `cohort` once and summarise it; `splits` gives each record's split.

    `markers` are those that the cohort was opened with.

    Unreadable records are listed, not raised. `progress(done, total)` is called after each record.
    """
    entries = cohort.entries
    shapes: Counter[tuple[int, ...]] = Counter()
    same: defaultdict[bytes, list[int]] = defaultdict(list)
    labels: defaultdict[str, Counter[str]] = defaultdict(Counter)
    unreadable, with_text = [], []
    for i, (entry, split) in enumerate(zip(entries, splits, strict=True)):
        try:
            same[cohort.digest(i)].append(i)
            record = cohort.load(i)
            shapes[next(iter(record.inputs.values())).shape[1:]] += 1
            labels[split].update(_shown(record, cohort))
            if any(text_suspected(image) for image in record.inputs.values() if image.ndim > 2):
                with_text.append(entry.key)
        except InputError as error:
            unreadable.append((entry.key, str(error)))
        if progress is not None:
            progress(i + 1, len(entries))
    subjects = [entry.subject for entry in entries]
    per_subject = sorted(Counter(subject for subject in subjects if subject is not None).values())
    names = sorted({name for entry in entries for name in entry.attributes})
    return CohortSummary(
        records=len(entries),
        subjects=len(per_subject) or None,
        records_per_subject=(per_subject[0], median(per_subject), per_subject[-1]) if per_subject else None,
        splits={split: _split_summary(cohort, splits, split, labels[split]) for split in _ordered(splits)},
        shapes=dict(shapes.most_common()),
        missing={name: sum(name not in entry.attributes for entry in entries) for name in names},
        overlapping=subjects_in_several_splits(subjects, splits),
        duplicates=[
            tuple(entries[i].key for i in group) for group in same.values() if len({splits[i] for i in group}) > 1
        ],
        unreadable=unreadable,
        text_suspected=with_text,
        left_out=cohort.left_out,
        remarks=cohort.remarks,
        markers=summarise_markers(cohort, markers),
    )


def _split_summary(cohort: Cohort, splits: Sequence[str], split: str, labels: Mapping[str, int]) -> SplitSummary:
    members = [entry for entry, name in zip(cohort.entries, splits, strict=True) if name == split]
    subjects = {entry.subject for entry in members if entry.subject is not None}
    return SplitSummary(len(members), len(subjects), {name: labels.get(name, 0) for name in cohort.classes})


def _shown(record: Record, cohort: Cohort) -> list[str]:
    classes = cohort.classes
    if "mask" in record.targets:
        return [classes[value] for value in np.unique(record.targets["mask"])]
    if "objects" in record.targets:
        return [classes[value] for value in np.unique(record.targets["objects"]) if value >= 0]
    label = record.targets.get("label")
    if label is None:
        return []
    if cohort.task == "regression":
        return list(classes)
    return (
        [classes[int(label)]]
        if label.ndim == 0
        else [name for name, value in zip(classes, label, strict=True) if value]
    )


def _ordered(splits: Sequence[str]) -> list[str]:
    order = ("train", "val", "test", "public", "unlabelled", "all")
    return sorted(set(splits), key=order.index)
