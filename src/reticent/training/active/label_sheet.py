"""The table that is filled in by hand: one row for each record to label."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from reticent.errors import InputError
from reticent.records import csv_text, write_text

_COLUMNS = ("file", "subject", "label")


def write_sheet(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write the files and subjects of the rows with an empty label each, for its owner's eyes alone (mode 0600)."""
    write_text(path, csv_text(_COLUMNS, [{**row, "label": ""} for row in rows]), mode=0o600)


def read_sheet(path: Path, files: Sequence[str], classes: Sequence[str]) -> dict[str, str]:
    """The class of each of `files`.

    Separators are commas, semicolons or tabs, as a spreadsheet saves them; a number may stand for a class that is one.

    Raises:
        InputError: names the row of a label that is no class, or of a file that was not asked for or is there twice; or
            says how many labels or rows are missing, and the first of them.
    """
    found: dict[str, str] = {}
    empty: list[tuple[int, str]] = []
    wanted = set(files)
    for row, (file, value) in enumerate(_cells(path), start=2):
        place = f"{path}, row {row}"
        if file not in wanted:
            raise InputError(f"{place}: {file or 'a row without a file'} was not asked for; remove the row")
        if file in found:
            raise InputError(f"{place}: {file} is listed twice; remove one of the two")
        found[file] = value
        if not value:
            empty.append((row, file))
        else:
            found[file] = _class_of(place, value, classes)
    if missing := [file for file in files if file not in found]:
        raise InputError(f"{path}: {len(missing)} of {len(files)} rows are gone, first {missing[0]}; put them back")
    if empty:
        row, file = empty[0]
        raise InputError(
            f"{path}: {len(empty)} of {len(files)} records have no label yet, first row {row} ({file}); fill in the "
            f"label column ({', '.join(classes)})"
        )
    return found


def _cells(path: Path) -> list[tuple[str, str]]:
    """File and label of every row that is not empty altogether."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); save it as CSV in UTF-8") from None
    header = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text), delimiter=max(",;\t", key=header.count))
    names = {str(name).strip().lower(): name for name in reader.fieldnames or ()}
    for name in ("file", "label"):
        if name not in names:
            raise InputError(f"{path}: no column {name}; keep the columns {', '.join(_COLUMNS)}")
    return [(str(row[names["file"]] or "").strip(), str(row[names["label"]] or "").strip()) for row in reader]


def _class_of(place: str, value: str, classes: Sequence[str]) -> str:
    if value in classes:
        return value
    for name in classes:
        try:
            if float(name) == float(value):
                return name
        except ValueError:
            continue
    raise InputError(f"{place}: the label {value!r} is none of {', '.join(classes)}; correct it")
