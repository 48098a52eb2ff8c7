"""Turns the text of label columns into class indices and multi-hot tuples, or says which row is wrong."""

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path

from reticent.errors import InputError

_HEADER_ROWS = 2  # the first record is in row 2 of the file, as a spreadsheet shows it


def looks_binary(values: Sequence[str | None]) -> bool:
    """Whether a column holds 0 and 1 only, and both."""
    return {_number(value) for value in values if value is not None} == {0.0, 1.0}


def class_labels(
    manifest: Path, column: str, values: Sequence[str | None], unlabelled: Sequence[bool]
) -> tuple[tuple[str, ...], list[int | None]]:
    """Class names, sorted (by value if they are numbers), and the class index of each row, None where unlabelled.

    Raises InputError with the row for a missing label, a text among numbers, and a number that is not whole.
    """
    given = [
        (row, _present(manifest, row, column, value))
        for row, (value, without) in enumerate(zip(values, unlabelled, strict=True), start=_HEADER_ROWS)
        if not without
    ]
    numbers = [_number(value) for _, value in given]
    if None not in numbers:
        named = [str(_whole(manifest, row, column, value)) for row, value in given]
        names = tuple(sorted(set(named), key=int))
    else:
        _refuse_mixture(manifest, column, given)
        named = [value for _, value in given]
        names = tuple(sorted(set(named)))
    index = {name: position for position, name in enumerate(names)}
    remaining = iter(named)
    return names, [None if without else index[next(remaining)] for without in unlabelled]


def multi_labels(
    manifest: Path, columns: Mapping[str, Sequence[str | None]], unlabelled: Sequence[bool]
) -> list[tuple[int, ...] | None]:
    """The 0/1 tuple over `columns` for each row, None where unlabelled; raises InputError for other values."""
    rows: list[tuple[int, ...] | None] = []
    for position, without in enumerate(unlabelled):
        row = position + _HEADER_ROWS
        rows.append(
            None if without else tuple(_zero_or_one(manifest, row, name, columns[name][position]) for name in columns)
        )
    return rows


def target_values(
    manifest: Path, columns: Mapping[str, Sequence[str | None]], unlabelled: Sequence[bool]
) -> list[tuple[float, ...] | None]:
    """The numbers of `columns` for each row, None where unlabelled; raises InputError for what is no finite number."""
    rows: list[tuple[float, ...] | None] = []
    for position, without in enumerate(unlabelled):
        row = position + _HEADER_ROWS
        rows.append(
            None if without else tuple(_finite(manifest, row, name, columns[name][position]) for name in columns)
        )
    return rows


def _finite(manifest: Path, row: int, column: str, value: str | None) -> float:
    number = _number(_present(manifest, row, column, value))
    if number is None or not isfinite(number):
        raise InputError(
            f"{manifest}, row {row}: the target {value!r} in column {column} is no finite number; correct it, or give "
            "the row the split unlabelled"
        )
    return number


def _refuse_mixture(manifest: Path, column: str, given: Sequence[tuple[int, str]]) -> None:
    """Raise InputError for the first value of the rarer kind: one "unclear" among many 0 and 1, or the reverse."""
    texts = [(row, value) for row, value in given if _number(value) is None]
    numbers = [(row, value) for row, value in given if _number(value) is not None]
    if numbers:
        rarer, kind = (
            (texts, "not a number, but others are") if len(texts) <= len(numbers) else (numbers, "a number among names")
        )
        row, value = rarer[0]
        raise InputError(
            f"{manifest}, row {row}: the label {value!r} in column {column} is {kind}; correct or remove it"
        )


def _whole(manifest: Path, row: int, column: str, value: str) -> int:
    number = float(value)
    if not number.is_integer():
        raise InputError(
            f"{manifest}, row {row}: the label {value!r} in column {column} is no class; use whole numbers or names"
        )
    return int(number)


def _zero_or_one(manifest: Path, row: int, column: str, value: str | None) -> int:
    number = _number(_present(manifest, row, column, value))
    if number not in (0.0, 1.0):
        kind = "non-numeric" if number is None else "neither 0 nor 1"
        raise InputError(
            f"{manifest}, row {row}: the label {value!r} in column {column} is {kind}; several labels are 0 or 1"
        )
    return int(number)


def _present(manifest: Path, row: int, column: str, value: str | None) -> str:
    if value is None:
        raise InputError(
            f"{manifest}, row {row}: no label in column {column}; add it, or give the row the split unlabelled"
        )
    return value


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None
