"""Tables that name their rows by a DICOM identifier: labels and subjects, joined to series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reticent.data.dicom.headers import Header
from reticent.data.table import Table, read_table
from reticent.errors import InputError

KEYS = {
    "SOPInstanceUID": "sop_uid", "SeriesInstanceUID": "series", "StudyInstanceUID": "study",
    "AccessionNumber": "accession", "PatientID": "patient",
}  # fmt: skip
"""What a table may be joined by, the finest first, and the header's field for it."""
_SHORT = {"SeriesInstanceUID": "seriesuid", "StudyInstanceUID": "studyuid", "AccessionNumber": "accession"}


@dataclass(frozen=True)
class Joined:
    """A table, the identifier and column it is joined by, and the table's position of each value there."""

    table: Table
    key: str
    column: str
    rows: Mapping[str, int]

    def row(self, header: Header) -> int | None:
        """The position of the row of this image or series, or None."""
        return self.rows.get(value) if (value := getattr(header, KEYS[self.key])) else None

    def unmatched(self, headers: Sequence[Header]) -> list[str]:
        """The rows that none of these images has, as "row N: value"; raises InputError if that is every row."""
        there = {getattr(header, KEYS[self.key]) for header in headers} - {""}
        missing = [f"row {i + 2}: {value}" for value, i in self.rows.items() if value not in there]
        if len(missing) == len(self.rows):
            example = f"like {min(there)}" if there else "empty"
            raise InputError(
                f"{self.table.path}: no row is of these files: {self.key} is {example} in them, "
                f"like {next(iter(self.rows))} in the table; correct the column, or name another identifier"
            )
        return missing


def join_table(table: Table, columns: Mapping[str, str]) -> Joined:
    """The table of a file, joined by the finest identifier that names a column of it (or that `columns` names).

    Raises InputError for a table without one, and with the row for a missing or repeated identifier.
    """
    key, column = _key(table, columns)
    rows: dict[str, int] = {}
    for i, value in enumerate(table.column(column)):
        if value is None:
            raise InputError(f"{table.where(i)}: the {key} in column {column} is empty; fill it in or remove it")
        if value in rows:
            raise InputError(f"{table.where(i)}: {key} {value} is listed already in row {rows[value] + 2}")
        rows[value] = i
    return Joined(table, key, column, rows)


def is_identifier(column: str) -> bool:
    """Whether a column's name is that of an identifier."""
    return _plain(column) in {spelling for key in KEYS for spelling in _spellings(key)}


def _key(table: Table, columns: Mapping[str, str]) -> tuple[str, str]:
    path, present = table.path, table.columns
    for key in KEYS:
        if key in columns:
            if columns[key] not in present:
                raise InputError(f"{path}: no column {columns[key]!r}; the columns are {', '.join(present)}")
            return key, columns[key]
    plain = {_plain(name): name for name in present}
    for key in KEYS:
        for spelling in _spellings(key):
            if spelling in plain:
                return key, plain[spelling]
    raise InputError(
        f"{path}: no column of {', '.join(KEYS)} among {', '.join(present)}; say which with --column PatientID=NAME"
    )


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def _spellings(key: str) -> tuple[str, ...]:
    return (key.lower(), _SHORT.get(key, key.lower()))


def subjects_of(path: Path | None) -> tuple[Joined | None, Sequence[str | None]]:
    """The table of subjects, and its column "subject"; raises InputError if it has none or leaves one empty."""
    if path is None:
        return None, []
    joined = join_table(read_table(path), {})
    column = subject_column(joined.table)
    if column is None:
        raise InputError(f"{path}: no column subject; give every {joined.key} the subject (person) it belongs to")
    subjects = joined.table.column(column)
    if None in subjects:
        raise InputError(f"{joined.table.where(subjects.index(None))}: the subject is empty; fill it in")
    return joined, subjects


def subject_column(table: Table) -> str | None:
    """The column called subject, or None."""
    return next((name for name in table.columns if name.lower() == "subject"), None)
