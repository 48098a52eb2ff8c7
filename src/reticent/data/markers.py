"""Tabular markers beside the images: columns of a table as one vector a record, and which of them are missing.

A marker is declared in a few words:

| declaration | the vector holds |
| --- | --- |
| `50,20` | (x - 50) / 20 |
| `2.5,1,log` | (log(1 + x) - 2.5) / 1, for concentrations |
| `50,20,3..500` | x within the detection limits: `-inf` and what is below 3 is 3, `inf` and what is above 500 is 500 |
| (empty), `log` | scaled by median and interquartile range of the training records: not under privacy |
| `f|m` | 1 at the named category, else 0 |

A missing value is 0, the declared centre, and 1 in the second vector, which says for each marker whether it is missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reticent.data.cohort import Cohort, Reader
from reticent.data.table import Table
from reticent.errors import InputError

PADDING = "padding"
"""Which slices of a volume are padding, see `Preprocessing`."""
VECTOR_INPUTS = ("markers", "missing", PADDING)
"""Inputs of a record that are vectors, not images."""
Scale = tuple[float, float]
"""Centre and scale of a component."""


@dataclass(frozen=True)
class Marker:
    """One column as declared. `scale` is None where it is to come from the training records."""

    name: str
    scale: Scale | None = None
    log: bool = False
    low: float = -math.inf
    high: float = math.inf
    categories: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        """Components in the vector."""
        return len(self.categories) or 1


def parse_marker(name: str, text: str) -> Marker:
    """The marker declared as `text`; see above.

    Raises:
        InputError: the text declares none.
    """
    if "|" in text:
        categories = tuple(part.strip() for part in text.split("|"))
        if "" in categories or len(set(categories)) < len(categories):
            raise InputError(f"--marker {name}={text}: name each category once, as f|m")
        return Marker(name, categories=categories)
    marker, numbers = Marker(name), list[float]()
    for part in filter(None, (part.strip() for part in text.split(","))):
        low, dots, high = part.partition("..")
        if part == "log":
            marker = replace(marker, log=True)
        elif dots:
            marker = replace(
                marker,
                low=_number(name, text, low) if low else -math.inf,
                high=_number(name, text, high) if high else math.inf,
            )
        else:
            numbers.append(_number(name, text, part))
    if len(numbers) not in (0, 2) or (numbers and numbers[1] <= 0) or marker.low >= marker.high:
        raise _unclear(name, text)
    if marker.log and math.isfinite(marker.low) and marker.low <= -1:
        raise InputError(f"--marker {name}={text}: log(1 + x) needs limits above -1")
    return replace(marker, scale=(numbers[0], numbers[1])) if numbers else marker


def parse_markers(declared: Mapping[str, str]) -> tuple[Marker, ...]:
    """All markers, by column."""
    return tuple(parse_marker(name, text) for name, text in declared.items())


def measurements(markers: Sequence[Marker]) -> set[str]:
    """The columns whose values are no subgroups: numbers, but for an age, which is one by decades."""
    return {marker.name for marker in markers if not marker.categories and marker.name.lower() != "age"}


def with_markers(cohort: Cohort, table: Table, markers: Sequence[Marker], rows: Sequence[int]) -> Cohort:
    """The cohort with the vectors "markers" and "missing" beside its images; `rows` has each record's position.

    Raises:
        InputError: naming column, row and remedy: there is no such column, or a cell does not fit its declaration.
    """
    values, missing = read_markers(table, markers)
    entries = [
        replace(entry, locator=_Marked(entry.locator, values[row], missing[row]))
        for entry, row in zip(cohort.entries, rows, strict=True)
    ]
    channels = {**cohort.channels, "markers": values.shape[1], "missing": len(markers)}
    return replace(cohort, entries=entries, channels=channels, reader=_MarkedReader(cohort.reader))


def without_markers(cohort: Cohort) -> Cohort:
    """The cohort that `with_markers` was given; any other as it is."""
    if not isinstance(cohort.reader, _MarkedReader):
        return cohort
    entries = [replace(entry, locator=entry.locator.record) for entry in cohort.entries]
    channels = {name: length for name, length in cohort.channels.items() if name not in VECTOR_INPUTS}
    return replace(cohort, entries=entries, channels=channels, reader=cohort.reader.reader)


def read_markers(table: Table, markers: Sequence[Marker]) -> tuple[np.ndarray, np.ndarray]:
    """The two vectors of every row, float32 (rows, components) with NaN where missing, and (rows, markers).

    Raises:
        InputError: see `with_markers`.
    """
    columns = [_column(table, marker) for marker in markers]
    missing = np.stack([np.isnan(column[:, 0]) for column in columns], 1)
    return np.concatenate(columns, 1).astype(np.float32), missing.astype(np.float32)


def training_scales(markers: Sequence[Marker], values: np.ndarray) -> tuple[Scale, ...]:
    """Centre and scale of every component: as declared, else median and interquartile range of the rows of `values`.

    Categories stay as they are. A range of 0 becomes 1.

    Raises:
        InputError: a column without declared scale has no value in these rows.
    """
    scales, start = list[Scale](), 0
    for marker in markers:
        if marker.categories:
            scales += [(0.0, 1.0)] * marker.length
        elif marker.scale is not None:
            scales.append(marker.scale)
        else:
            given = values[:, start][~np.isnan(values[:, start])]
            if not len(given):
                raise InputError(f"--marker {marker.name}: no training record has a value; leave it out")
            low, middle, high = np.quantile(given, [0.25, 0.5, 0.75])
            scales.append((float(middle), float(high - low) or 1.0))
        start += marker.length
    return tuple(scales)


def marker_values(cohort: Cohort, records: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The two vectors of these records, (n, components) with NaN where missing, and (n, markers).

    Reads no image of a cohort that `with_markers` made.
    """
    found = [_vectors(cohort, i) for i in records]
    return np.stack([values for values, _ in found]), np.stack([missing for _, missing in found])


def _vectors(cohort: Cohort, i: int) -> tuple[np.ndarray, np.ndarray]:
    locator = cohort.entries[i].locator
    if isinstance(locator, _Marked):
        return locator.values, locator.missing
    inputs = cohort.load(i).inputs  # another reader around this one
    return inputs["markers"], inputs["missing"]


def input_shape(name: str, channels: int, size: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of one record of an input: a vector, or channels with the image size."""
    return (channels,) if name in VECTOR_INPUTS else (channels, *size)


@dataclass(frozen=True, eq=False)
class _Marked:
    record: Any
    values: np.ndarray
    missing: np.ndarray


@dataclass(frozen=True)
class _MarkedReader:
    """Adds the vectors to what another reader decodes; NaN stands for missing values."""

    reader: Reader

    def shape(self, locator: _Marked) -> tuple[int, ...]:
        return self.reader.shape(locator.record)

    def spacing(self, locator: _Marked) -> tuple[float, ...] | None:
        return self.reader.spacing(locator.record)

    def decode(self, locator: _Marked) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        inputs, targets = self.reader.decode(locator.record)
        return {**inputs, "markers": locator.values, "missing": locator.missing}, targets

    def digest(self, locator: _Marked) -> bytes:
        return self.reader.digest(locator.record)

    def stamp(self, locator: _Marked) -> str:
        return f"{self.reader.stamp(locator.record)} {locator.values.tobytes().hex()}"


def _column(table: Table, marker: Marker) -> np.ndarray:
    """Components (rows, length); NaN where the cell is empty."""
    if marker.name not in table.columns:
        present = ", ".join(table.columns)
        raise InputError(f"{table.path}: no column {marker.name!r} (--marker); the columns are {present}")
    read = _category if marker.categories else _value
    return np.array([read(table.where(i), marker, cell) for i, cell in enumerate(table.column(marker.name))])


def _category(where: str, marker: Marker, cell: str | None) -> list[float]:
    if cell is None:
        return [math.nan] * marker.length
    if cell not in marker.categories:
        raise InputError(
            f"{where}: {cell!r} in column {marker.name} is none of {'|'.join(marker.categories)}; correct "
            "it, leave it empty, or declare it with --marker"
        )
    return [float(cell == category) for category in marker.categories]


def _value(where: str, marker: Marker, cell: str | None) -> list[float]:
    if cell is None:
        return [math.nan]
    where = f"{where}: {cell!r} in column {marker.name}"
    try:
        value = float(cell)
    except ValueError:
        raise InputError(f"{where} is not a number; correct it, leave it empty, or declare categories (a|b)") from None
    if math.isnan(value):
        raise InputError(f"{where} is not a number; leave a missing value empty")
    value = min(max(value, marker.low), marker.high)
    if math.isinf(value):
        limit = "3.." if value < 0 else "..500"
        raise InputError(
            f"{where} is outside a detection limit; declare it, as --marker {marker.name}=…,{limit}, or leave it empty"
        )
    if not marker.log:
        return [value]
    if value <= -1:
        raise InputError(f"{where} has no log(1 + x); correct it, or leave out log")
    return [math.log1p(value)]


def _number(name: str, text: str, part: str) -> float:
    try:
        value = float(part)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _unclear(name, text)
    return value


def _unclear(name: str, text: str) -> InputError:
    return InputError(
        f"--marker {name}={text}: write CENTRE,SCALE (and perhaps log and LOW..HIGH, as 2.5,1,log,0..500), or f|m"
    )
