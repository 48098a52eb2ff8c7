"""The records of a campaign as rows, and cohorts made of some of them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reticent.data import Cohort, open_cohort
from reticent.errors import InputError
from reticent.records import csv_text, write_text

Rows = Sequence[Mapping[str, str]]
ROLES = ("file", "subject", "split")


def class_names(names: Sequence[str]) -> tuple[str, ...]:
    """The classes in the order that a manifest with all of them gives: by value if they are numbers, else by name.

    Raises:
        InputError: there are fewer than two, one is empty or given twice, or numbers and names are mixed.
    """
    if len(names) < 2 or not all(names):
        raise InputError("--classes: name two or more, as --classes healthy,ill; a label is to be one of them")
    numbers = [name.isdecimal() for name in names]
    if any(numbers) and not all(numbers):
        raise InputError(f"--classes {','.join(names)}: names and numbers do not mix; choose one kind")
    classes = sorted({str(int(name)) for name in names}, key=int) if all(numbers) else sorted(set(names))
    if len(classes) < len(names):
        raise InputError(f"--classes {','.join(names)}: one is given twice; leave it out")
    return tuple(classes)


def open_rows(path: Path, rows: Rows, classes: Sequence[str], name: str) -> Cohort:
    """Rows written to a manifest, and opened with the campaign's classes, whichever of them occur."""
    write_text(path, csv_text(list(rows[0]), rows), mode=0o600)
    cohort = open_cohort(str(path), columns={role: role for role in ROLES}, labels=("label",), strict=False)
    numbers = {name: k for k, name in enumerate(classes)}
    entries = [
        entry if entry.label is None else replace(entry, label=_numbered(path, entry.label, cohort.classes, numbers))
        for entry in cohort.entries
    ]
    task: Any = "binary" if len(classes) == 2 else "multi-class"
    return replace(cohort, name=name, task=task, classes=tuple(classes), entries=entries)


def _numbered(path: Path, label: Any, found: Sequence[str], numbers: Mapping[str, int]) -> int:
    if found[label] not in numbers:
        raise InputError(f"the label {found[label]!r} of a held-out record is none of {', '.join(numbers)}; correct it")
    return numbers[found[label]]


def waiting_subjects(rows: Rows, groups: Sequence[Sequence[str]]) -> list[str]:
    """Subjects that wait to be selected."""
    taken = {subject for group in groups for subject in group}
    waiting = dict.fromkeys(row["subject"] for row in rows if row["split"] == "unlabelled")
    return [subject for subject in waiting if subject not in taken]


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
