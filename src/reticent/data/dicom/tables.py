"""Tables that name their rows by a DICOM identifier: labels and subjects, joined to series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reticent.data.dicom.headers import Header
from reticent.data.manifest import read_table, texts
from reticent.errors import InputError

if TYPE_CHECKING:
    import pandas

KEYS = {
    "SOPInstanceUID": "sop_uid", "SeriesInstanceUID": "series", "StudyInstanceUID": "study",
    "AccessionNumber": "accession", "PatientID": "patient",
}  # fmt: skip
"""What a table may be joined by, the finest first, and the header's field for it."""
_SHORT = {"SeriesInstanceUID": "seriesuid", "StudyInstanceUID": "studyuid", "AccessionNumber": "accession"}


@dataclass(frozen=True)
class Joined:
    """A table, the identifier and column it is joined by, and the table's position of each value there."""

    path: Path
    table: pandas.DataFrame
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
                f"{self.path}: no row is of these files: {self.key} is {example} in them, "
                f"like {next(iter(self.rows))} in the table; correct the column, or name another identifier"
            )
        return missing


def join_table(path: Path, table: pandas.DataFrame, columns: Mapping[str, str]) -> Joined:
    """The table of a file, joined by the finest identifier that names a column of it (or that `columns` names).

    Raises InputError for a table without one, and with the row for a missing or repeated identifier.
    """
    present = [str(name) for name in table.columns]
    key, column = _key(path, present, columns)
    rows: dict[str, int] = {}
    for i, value in enumerate(texts(table, column)):
        if value is None:
            raise InputError(f"{path}, row {i + 2}: the {key} in column {column} is empty; fill it in or remove it")
        if value in rows:
            raise InputError(f"{path}, row {i + 2}: {key} {value} is listed already in row {rows[value] + 2}")
        rows[value] = i
    return Joined(path, table, key, column, rows)


def is_identifier(column: str) -> bool:
    """Whether a column's name is that of an identifier."""
    return _plain(column) in {spelling for key in KEYS for spelling in _spellings(key)}


def _key(path: Path, present: Sequence[str], columns: Mapping[str, str]) -> tuple[str, str]:
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


def subjects_of(path: Path | None) -> tuple[Joined | None, list[str | None]]:
    """The table of subjects, and its column "subject"; raises InputError if it has none or leaves one empty."""
    if path is None:
        return None, []
    joined = join_table(path, read_table(path), {})
    column = subject_column(joined.table)
    if column is None:
        raise InputError(f"{path}: no column subject; give every {joined.key} the subject (person) it belongs to")
    subjects = texts(joined.table, column)
    if None in subjects:
        raise InputError(f"{path}, row {subjects.index(None) + 2}: the subject is empty; fill it in")
    return joined, subjects


def subject_column(table: pandas.DataFrame) -> str | None:
    """The column called subject, or None."""
    return next((str(name) for name in table.columns if str(name).lower() == "subject"), None)
