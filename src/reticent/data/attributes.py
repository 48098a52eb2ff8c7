"""Attributes of records for subgroup reporting: sex, age in decades, projection and the like."""

from collections.abc import Mapping, Sequence

from reticent.data.table import Table

MOST_VALUES = 20


def attribute_rows(table: Table, columns: Sequence[str], names: Mapping[str, str]) -> list[dict[str, str]]:
    """For each row, the values of those of `columns` with 1 to 20 distinct values, a numeric age by decades.

    `names` maps a column to the attribute's name. A missing value is absent from the row's mapping.
    """
    rows: list[dict[str, str]] = [{} for _ in range(len(table))]
    for column in columns:
        name = names.get(column, column)
        values = table.column(column)
        if name.lower() == "age":
            values = decades(values)
        if 1 <= len(set(values) - {None}) <= MOST_VALUES:
            for row, value in zip(rows, values, strict=True):
                if value is not None:
                    row[name] = value
    return rows


def decades(ages: Sequence[str | None]) -> list[str | None]:
    """Ages in years as decades ("67" -> "60-69"); unchanged if one of them is no number."""
    try:
        years = [None if age is None else int(float(age)) for age in ages]
    except (ValueError, OverflowError):
        return list(ages)
    return [None if year is None else f"{year // 10 * 10}-{year // 10 * 10 + 9}" for year in years]
