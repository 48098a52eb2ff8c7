"""A manifest of records that wait for their labels."""

from collections.abc import Mapping
from pathlib import Path

from reticent.data.lookup import find_image
from reticent.data.manifest import MANIFEST_SUFFIXES, is_manifest
from reticent.data.roles import find_column, find_file_column, find_splits
from reticent.data.table import read_table
from reticent.data.validation import subjects_in_several_splits
from reticent.errors import InputError

POOL_COLUMNS = ("file", "subject", "split", "label")


def read_pool(uri: str, columns: Mapping[str, str], label: str | None = None) -> list[dict[str, str]]:
    """The rows of a manifest of which the label column is empty, or missing, in the records to label.

    Every row has "file" (absolute path), "subject", "split" and "label", then the manifest's other columns. The split
    is "unlabelled" for records to label (no split, "train" or "unlabelled" in the manifest), which must have no label;
    or "val" or "test" for records held out, which must have one.

    Raises:
        InputError: the manifest is not readable, or has no column of subjects; names the row of a missing file or
            subject, of a label too many or too few, of a split that does not belong, and of a file listed twice.
    """
    path = Path(uri)
    if not is_manifest(uri):
        raise InputError(f"{uri}: records to label come from a manifest ({', '.join(MANIFEST_SUFFIXES)}); write one")
    table = read_table(path)
    present = table.columns
    if label is not None and label not in present:
        raise InputError(f"{path}: no column {label!r}; the columns are {', '.join(present)}")
    columns = dict(columns) | ({"label": label} if label is not None else {})
    named = {role: find_column(table, columns, role) for role in ("subject", "split", "label")}
    file_column = find_file_column(table, columns)
    if named["subject"] is None:
        raise InputError(f"{path}: no column of subjects (patients); name it with --column subject=NAME")
    splits = find_splits(table, named["split"])
    labels = table.column(named["label"])
    others = [name for name in present if name not in (file_column, *named.values(), *POOL_COLUMNS)]
    cells = {name: table.column(name) for name in others}
    rows, seen = [], dict[str, int]()
    triples = zip(table.column(file_column), table.column(named["subject"]), splits, labels, strict=True)
    for row, (file, subject, split, value) in enumerate(triples, start=2):
        place = f"{path}, row {row}"
        split = _pool_split(place, split, value)
        if file is None or subject is None:
            raise InputError(f"{place}: the {'file' if file is None else 'subject'} is empty; fill it in")
        image = str(find_image(path, row, file).resolve())
        if image in seen:
            raise InputError(f"{place}: {file} is listed already in row {seen[image]}; remove one of the two")
        seen[image] = row
        own = dict(zip(POOL_COLUMNS, (image, subject, split, value or ""), strict=True))
        rows.append(own | {name: cells[name][row - 2] or "" for name in others})
    overlapping = subjects_in_several_splits((row["subject"] for row in rows), (row["split"] for row in rows))
    for subject, names in overlapping.items():
        raise InputError(f"{path}: subject {subject} is both held out and to label ({', '.join(names)}); choose one")
    return rows


def _pool_split(place: str, split: str | None, label: str | None) -> str:
    if split in ("val", "test"):
        if label is None:
            raise InputError(f"{place}: held out ({split}) without a label; add it, or remove the row")
        return split
    if split == "public":
        raise InputError(f"{place}: the split public has no place among records to label; remove the row")
    if label is not None:
        raise InputError(
            f"{place}: has the label {label!r} already; empty it to let the record be selected, or hold the patient "
            "out (split test)"
        )
    return "unlabelled"
