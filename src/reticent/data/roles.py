"""Which columns of a table hold files, subjects, splits, masks, labels and attributes, and what is in them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial

from reticent.data.attributes import attribute_rows
from reticent.data.cohort import Task, canonical_split
from reticent.data.labels import class_labels, looks_binary, multi_labels, target_values
from reticent.data.table import Table
from reticent.errors import InputError

_ALIASES = {
    "file": ("file", "filename", "file_name", "path", "filepath", "image", "image_path"),
    "subject": ("subject", "subject_id", "patient", "patient_id", "patientid"),
    "label": ("label", "labels", "target", "class", "diagnosis"),
    "mask": ("mask", "mask_path", "segmentation"),
    "split": ("split", "partition"),
}
_MOST_CANDIDATE_VALUES = 20


@dataclass(frozen=True)
class Roles:
    """The table's column for each role; one label column makes a single-label task, several a multi-label one.

    `targets`, if there are any, make it a regression and take the place of labels; `file` is empty where the rows are
    of one archive.
    """

    file: str
    subject: str | None
    split: str | None
    mask: str | None
    labels: tuple[str, ...]
    targets: tuple[str, ...] = ()


def find_roles(
    table: Table,
    columns: Mapping[str, str],
    labels: Sequence[str],
    targets: Sequence[str] = (),
    *,
    files: bool = True,
    labelled: bool = True,
) -> Roles:
    """The column of each role, as named or by its usual name; raises InputError if one is unclear.

    Without `files` no column is the file's; not `labelled`, none is looked for that holds labels or masks.
    """
    path, present = table.path, table.columns
    if labels and targets:
        raise InputError(f"{path}: --label is for classes, --target for numbers; say one of them")
    for role in columns:
        if role not in _ALIASES and (meant := get_close_matches(role, _ALIASES, 1, 0.75)):
            raise InputError(f"{path}: --column {role}=…: did you mean {meant[0]}?")
    for named in (*columns.values(), *labels, *targets):
        if named not in present:
            raise InputError(f"{path}: no column {named!r}; the columns are {', '.join(present)}")
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"{path}: --label {label} is named twice")

    file = find_file_column(table, columns) if files else ""
    find = partial(find_column, table, columns)
    subject, split = find("subject"), find("split")
    if not labelled:
        return Roles(file, subject, split, None, ())
    asked = tuple(labels) or ((columns["label"],) if "label" in columns and not targets else ())
    mask = find("mask")
    if not asked and mask is None and not targets:
        asked = (find("label") or _only_binary_column(table, {file, subject, split, *columns.values()}),)
    for label in (*asked, *targets):
        if label in (file, subject, split, mask):
            raise InputError(
                f"{path}: the column {label} cannot be the label; it tells files, subjects or splits apart"
            )
    return Roles(file, subject, split, mask, asked, tuple(targets))


def refuse_marked_labels(table: Table, roles: Roles, markers: Iterable[str]) -> None:
    """Raise InputError if a column that is given to the network as a marker is what it is to predict."""
    for name in markers:
        if name in (*roles.labels, *roles.targets):
            raise InputError(f"{table.path}: --marker {name}: that column is what is predicted; leave it out")


def find_file_column(table: Table, columns: Mapping[str, str]) -> str:
    """The column of the files; raises InputError if there is none."""
    file = find_column(table, columns, "file")
    if file is None:
        present = ", ".join(table.columns)
        raise InputError(f"{table.path}: no file column among {present}; say which ({_option('file')})")
    return file


def find_column(table: Table, columns: Mapping[str, str], role: str) -> str | None:
    """The column named for a role, or the one with a usual name; raises InputError if there are several."""
    if role in columns:
        return columns[role]
    found = [name for name in table.columns if name.lower() in _ALIASES[role]]
    if len(found) > 1:
        several = " and ".join(found)
        raise InputError(f"{table.path}: {several} may each be the {role} column; say which ({_option(role)})")
    return found[0] if found else None


def _option(role: str) -> str:
    return "`--label NAME`" if role == "label" else f"`--column {role}=NAME`"


def _only_binary_column(table: Table, taken: set[str | None]) -> str:
    free = [name for name in table.columns if name not in taken]
    binary = [name for name in free if looks_binary(table.column(name))]
    if len(binary) == 1:
        return binary[0]
    candidates = binary or [
        name for name in free if 2 <= len(set(table.column(name)) - {None}) <= _MOST_CANDIDATE_VALUES
    ]
    listed = ", ".join(candidates) or "none"
    raise InputError(f"{table.path}: which column is the label? Say `--label NAME`; candidates: {listed}")


def find_splits(table: Table, column: str | None) -> list[str | None]:
    """The split of each row, None where none is given; raises InputError for an unknown one."""
    splits = []
    for i, name in enumerate(table.column(column)):
        split = None if name is None else canonical_split(name)
        if name is not None and split is None:
            raise InputError(
                f"{table.where(i)}: unknown split {name!r} in column {column}; "
                "use train, val, test, public or unlabelled"
            )
        splits.append(split)
    return splits


def read_labels(
    table: Table, roles: Roles, unlabelled: list[bool]
) -> tuple[Task, tuple[str, ...], Sequence[int | tuple[float, ...] | None]]:
    """Task, classes and the label of each row, None where it is unlabelled or has a mask alone.

    Raises InputError with the row for a label that does not fit.
    """
    if roles.targets:
        numbers = {name: table.column(name) for name in roles.targets}
        return "regression", roles.targets, target_values(table.path, numbers, unlabelled)
    if roles.mask is None and not roles.labels:
        return "restoration", ("intensity",), [None] * len(table)
    if not roles.labels:
        return "segmentation", ("background", "foreground"), [None] * len(table)
    if len(roles.labels) > 1:
        values = {name: table.column(name) for name in roles.labels}
        return "multi-label", roles.labels, multi_labels(table.path, values, unlabelled)
    name = roles.labels[0]
    given, masks = table.column(name), table.column(roles.mask)
    without = [own or (v is None and m is not None) for own, v, m in zip(unlabelled, given, masks, strict=True)]
    classes, labels = class_labels(table.path, name, given, without)
    return ("binary" if len(classes) == 2 else "multi-class"), classes, labels


def row_attributes(
    table: Table, roles: Roles, columns: Mapping[str, str], without: Collection[str] = ()
) -> list[dict[str, str]]:
    """Of each row, the attributes in the columns that have no role, and are not `without`."""
    used = {roles.file, roles.subject, roles.split, roles.mask, *roles.labels, *roles.targets, *without}
    names = {column: role for role, column in columns.items() if role not in _ALIASES}
    return attribute_rows(table, [name for name in table.columns if name not in used], names)
