"""What a table says of the images of a cohort with boxes: subjects, splits and attributes, one row an image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from reticent.data.roles import find_roles, find_splits, row_attributes
from reticent.data.table import Table, read_table
from reticent.errors import InputError


@dataclass(frozen=True)
class ImageTable:
    """What the row of each image says, in the order of the images.

    `subjects` and `splits` are None where the table has no such column. `remarks` lists, by title, the rows without
    image and the images without row.
    """

    path: Path
    subjects: Sequence[str | None] | None
    splits: Sequence[str | None] | None
    attributes: Sequence[Mapping[str, str]]
    remarks: Mapping[str, Sequence[str]]


def read_image_table(
    path: Path, columns: Mapping[str, str], names: Sequence[Sequence[str]], *, strict: bool
) -> ImageTable:
    """Read a table with a row for each image; its columns are found as those of a manifest.

    A row names its image by one of the image's `names`, of which the first is its alone, with or without suffix.
    Raises InputError, with the row where there is one, if no row names an image, if a row names two or two name one,
    for an unknown split and, if `strict`, for an image without row.
    """
    for role in ("label", "mask"):
        if role in columns:
            raise InputError(f"{path}: --column {role}={columns[role]}: the boxes are what is learned; leave it out")
    table = read_table(path)
    roles = find_roles(table, columns, (), labelled=False)
    rows, strangers = _join(table, roles.file, names)
    without_row = [own[0] for own, row in zip(names, rows, strict=True) if row is None]
    if strict and without_row:
        raise InputError(
            f"{path}: no row for {len(without_row)} of {len(names)} images, first {without_row[0]}; add their rows, "
            "with subject and split where the table has them"
        )
    attributes = row_attributes(table, roles, columns)
    return ImageTable(
        path,
        None if roles.subject is None else _at(table.column(roles.subject), rows),
        None if roles.split is None else _at(find_splits(table, roles.split), rows),
        [{} if row is None else attributes[row] for row in rows],
        {f"rows of {path.name} without images": strangers, f"images without a row in {path.name}": without_row},
    )


def _at(values: Sequence[str | None], rows: Iterable[int | None]) -> list[str | None]:
    return [None if row is None else values[row] for row in rows]


def _join(table: Table, column: str, names: Sequence[Sequence[str]]) -> tuple[list[int | None], list[str]]:
    """The position of each image's row, and the rows of no image, as "row N: file"."""
    spelt, bare = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
    for i, own in enumerate(names):
        for name in set(own):
            spelt[name].append(i)
            bare[PurePath(name).with_suffix("").as_posix()].append(i)
    rows: list[int | None] = [None] * len(names)
    strangers = []
    files = table.column(column)
    for k, file in enumerate(files):
        place = table.where(k)
        if file is None:
            raise InputError(f"{place}: names no image; fill in its file, or remove the row")
        found = spelt.get(file) or bare.get(file) or []
        if len(found) > 1:
            these = " and ".join(names[i][0] for i in found[:2])
            raise InputError(f"{place}: {file} is the name of {len(found)} images; write their paths, as {these}")
        for i in found:
            if (earlier := rows[i]) is not None:
                raise InputError(f"{place}: {file} is listed already in row {earlier + 2}; remove one of the two")
            rows[i] = k
        if not found:
            strangers.append(f"row {k + 2}: {file}")
    if len(strangers) == len(files):
        raise InputError(
            f"{table.path}: no row names an image of the cohort, as {names[0][0]} does (first row: {files[0]}); "
            f"correct the column {column}"
        )
    return rows, strangers
