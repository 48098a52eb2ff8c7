"""Who the cases of a dataset folder belong to: `subjects.csv`, or each case to somebody of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reticent.data.cohort import Entry
from reticent.data.table import read_table
from reticent.errors import InputError

_TABLE = "subjects.csv"
_ASSUMED = "each case is taken for another patient; list those of one patient in subjects.csv (case,subject)"


def with_subjects(root: Path, entries: Sequence[Entry]) -> tuple[list[Entry], str | None]:
    """Entries whose subject is a case's name, with the subjects of the folder's table; or what is assumed.

    Raises InputError, with the row, for a table without the columns case and subject, with a case twice or an empty
    cell, and for a case that is not in it.
    """
    path = root / _TABLE
    if not path.is_file():
        return list(entries), _ASSUMED
    table = read_table(path)
    missing = {"case", "subject"} - set(table.columns)
    if missing:
        raise InputError(f"{path}: no column {min(missing)}; it lists the subject (patient) of each case: case,subject")
    subjects: dict[str, str] = {}
    for row, (case, subject) in enumerate(zip(table.column("case"), table.column("subject"), strict=True), start=2):
        if case is None or subject is None:
            raise InputError(f"{path}, row {row}: the {'case' if case is None else 'subject'} is empty; fill it in")
        if case in subjects:
            raise InputError(f"{path}, row {row}: case {case} is listed already; remove one of the two")
        subjects[case] = subject
    for entry in entries:
        if str(entry.subject) not in subjects:
            raise InputError(f"{path}: no row for case {entry.subject}; add its subject")
    return [replace(entry, subject=subjects[str(entry.subject)]) for entry in entries], None
