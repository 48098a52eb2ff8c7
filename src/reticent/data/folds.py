"""Folds of a cross-validation, by subject, for outer folds and for the inner ones that choose options."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from reticent.data.cohort import SPLIT_ROLES, Cohort, Entry
from reticent.errors import InputError

HELD_OUT_TWICE = "unlabelled"
"""Split of an outer test fold where an inner fold is being scored: it is not looked at."""


class FoldPlace(NamedTuple):
    """Which part of a cross-validation a run is: outer fold `number` of `folds` in a repeat, perhaps an inner one."""

    folds: int
    number: int
    repeat: int = 0
    inner_folds: int = 0
    inner_number: int = 0


def assign_folds(cohort: Cohort, key: bytes, place: FoldPlace, *, stratified: bool) -> list[str]:
    """The split of every record: "test" in the outer fold, else "train".

    Where an inner fold is named, it is "val", and the outer fold "unlabelled", which no run looks at. Records given as
    public or unlabelled stay so; other given splits do not matter.

    With u = HMAC-SHA256(key, "repeat subject"), a subject is in fold floor(u folds), whatever the others are: what
    privacy needs. `stratified` deals the subjects of each class out in turn instead, in the order of u.

    Raises:
        InputError: a fold is empty, or see `check_folds` (only if stratified).
    """
    taking = dict[str, int | tuple[float, ...] | None]()
    for entry in cohort.entries:
        if _takes_part(entry) and taking.get(str(entry.subject)) is None:
            taking[str(entry.subject)] = entry.label
    if stratified:
        check_folds(cohort, place.folds)
    outer = _folds(taking, key, f"{place.repeat}", place.folds, stratified)
    splits = {subject: "test" if fold == place.number else "train" for subject, fold in outer.items()}
    if place.inner_folds:
        left = {subject: taking[subject] for subject, split in splits.items() if split == "train"}
        inner = _folds(left, key, f"{place.repeat} {place.number} inner", place.inner_folds, stratified)
        held_out = {subject for subject, fold in inner.items() if fold == place.inner_number}
        splits = {
            subject: HELD_OUT_TWICE if split == "test" else "val" if subject in held_out else "train"
            for subject, split in splits.items()
        }
    return [splits.get(str(entry.subject), str(entry.split)) for entry in cohort.entries]


def check_folds(cohort: Cohort, folds: int) -> None:
    """Raise InputError unless no subject has two outcomes, and every class at least as many subjects as folds."""
    outcome: dict[str, tuple[int | tuple[float, ...], str]] = {}
    for entry in cohort.entries:
        if entry.label is None or not _takes_part(entry):
            continue
        label, key = outcome.setdefault(str(entry.subject), (entry.label, entry.key))
        if label != entry.label:
            raise InputError(
                f"{cohort.uri}: subject {entry.subject} has two outcomes, {_named(cohort, label)} ({key}) and "
                f"{_named(cohort, entry.label)} ({entry.key}); folds by patient need one: correct the label"
            )
    counts = Counter(label for label, _ in outcome.values())
    for k, name in enumerate(cohort.classes):
        if counts[k] < folds:
            raise InputError(
                f"{cohort.uri}: {counts[k]} subjects of class {name!r} are fewer than {folds} folds; use at most "
                f"{min(counts[j] for j in range(len(cohort.classes)))} folds, or more patients"
            )


def _takes_part(entry: Entry) -> bool:
    return entry.split is None or SPLIT_ROLES[entry.split] in ("train", "held-out")


def _named(cohort: Cohort, label: int | tuple[float, ...]) -> str:
    return cohort.classes[label] if isinstance(label, int) else str(label)


def _folds(subjects: Mapping[str, object], key: bytes, purpose: str, folds: int, stratified: bool) -> dict[str, int]:
    drawn = {subject: _uniform(key, f"{purpose} {subject}") for subject in subjects}
    if stratified:
        order = sorted(subjects, key=lambda subject: (str(subjects[subject]), drawn[subject]))
        found = {subject: place % folds for place, subject in enumerate(order)}
    else:
        found = {subject: int(u * folds) for subject, u in drawn.items()}
    if empty := set(range(folds)) - set(found.values()):
        raise InputError(
            f"fold {min(empty) + 1} of {folds} came out empty: {len(found)} subjects are too few for so many"
        )
    return found


def _uniform(key: bytes, message: str) -> float:
    return int.from_bytes(hmac.digest(key, message.encode(), hashlib.sha256)[:6], "big") / 2**48
