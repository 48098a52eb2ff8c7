"""Checks of a cohort that need no pixels: splits, classes and subjects."""

from collections import Counter
from collections.abc import Iterable, Sequence

from reticent.data.cohort import DECODED_TARGETS, Cohort, Entry
from reticent.errors import InputError

_MOST_CLASSES = 100


def check_splits(cohort: Cohort, *, for_training: bool) -> None:
    """Raise InputError if the cohort is empty or, `for_training`, no record can be trained on."""
    if not cohort.entries:
        raise InputError(f"{cohort.uri}: no records; check the path")
    if for_training and not _training(cohort.entries):
        found = ", ".join(sorted({str(entry.split) for entry in cohort.entries}))
        raise InputError(
            f"{cohort.uri}: the split train is empty (splits found: {found}); name the training records train"
        )


def check_classes(cohort: Cohort) -> None:
    """Raise InputError if the training records have one class only, or the same value of one of several labels.

    Also for more than 100 classes: their names are released with the model, and may tell patients apart.
    """
    if len(cohort.classes) > _MOST_CLASSES:
        raise InputError(
            f"{cohort.uri}: {len(cohort.classes)} classes; their names become public, and so many look like "
            "identifiers: name the right column with --label"
        )
    labels = [entry.label for entry in _training(cohort.entries) if entry.label is not None]
    if cohort.task == "regression":
        if not cohort.classes:
            raise InputError(
                f"{cohort.uri}: nothing to regress on; name a target with its range: --target NAME=LOW,HIGH"
            )
        if not labels:
            raise InputError(f"{cohort.uri}: no training record has its targets; check the split column")
        return
    if cohort.task == "multi-label":
        for position, name in enumerate(cohort.classes):
            if len({label[position] for label in labels if isinstance(label, tuple)}) < 2:
                raise InputError(
                    f"{cohort.uri}: the label {name} has the same value in all training records; leave it out"
                )
    elif cohort.task not in DECODED_TARGETS and len(set(labels)) < 2:
        found = ", ".join(cohort.classes[label] for label in set(labels) if isinstance(label, int)) or "none"
        raise InputError(f"{cohort.uri}: the training records have one class only ({found}); a classifier needs two")


def check_subjects(cohort: Cohort, *, overlap_allowed: bool) -> None:
    """Raise InputError unless every record has a subject.

    Unless `overlap_allowed`, also raise if all records share one subject or a subject is in two given splits.
    """
    if not cohort.has_subjects:
        raise InputError(
            f"{cohort.uri} has no subject (patient) identifiers; {cohort.subject_remedy}, or say `--unit record` to "
            "protect single images instead"
        )
    missing = [entry.key for entry in cohort.entries if entry.subject is None]
    if missing:
        raise InputError(
            f"{cohort.uri}: the subject is empty in {len(missing)} of {len(cohort.entries)} records, "
            f"first {missing[0]}; fill it in, {cohort.subject_remedy}, or say `--unit record`"
        )
    if overlap_allowed:
        return
    counts = Counter(entry.subject for entry in cohort.entries)
    if len(counts) == 1:
        raise InputError(
            f"{cohort.uri}: all {len(cohort.entries)} records have the subject {next(iter(counts))}; "
            f"{cohort.subject_remedy}, or say `--unit record`"
        )
    overlapping = subjects_in_several_splits(
        (entry.subject for entry in cohort.entries), (entry.split for entry in cohort.entries)
    )
    if overlapping:
        subject, splits = next(iter(overlapping.items()))
        raise InputError(
            f"{cohort.uri}: subject {subject} is in the splits {' and '.join(splits)} "
            f"({len(overlapping)} such subjects); keep each patient in one split, or remove the split column"
        )


def subjects_in_several_splits(
    subjects: Iterable[str | None], splits: Iterable[str | None]
) -> dict[str, tuple[str, ...]]:
    """The subjects whose records lie in more than one split, with the sorted names of these splits."""
    found: dict[str, set[str]] = {}
    for subject, split in zip(subjects, splits, strict=True):
        if subject is not None and split is not None:
            found.setdefault(subject, set()).add(split)
    return {subject: tuple(sorted(names)) for subject, names in found.items() if len(names) > 1}


def _training(entries: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.split in (None, "train")]
