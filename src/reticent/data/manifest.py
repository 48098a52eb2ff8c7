"""Cohorts listed in a table: a CSV or Parquet manifest with one row per record."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reticent.data.attributes import attribute_rows
from reticent.data.cohort import Cohort, Entry, Task, canonical_split
from reticent.data.files import FileLocator, FileReader, read_header
from reticent.data.labels import class_labels, looks_binary, multi_labels, target_values
from reticent.data.lookup import find_image, find_mask
from reticent.data.markers import measurements, parse_markers, read_markers, with_markers
from reticent.data.opening import Opening
from reticent.data.surfaces.mesh_files import is_mesh
from reticent.data.surfaces.reader import MeshFile, SurfaceReader
from reticent.errors import InputError

if TYPE_CHECKING:
    import pandas

MANIFEST_SUFFIXES = (".csv", ".parquet")
_ALIASES = {
    "file": ("file", "filename", "file_name", "path", "filepath", "image", "image_path"),
    "subject": ("subject", "subject_id", "patient", "patient_id", "patientid"),
    "label": ("label", "labels", "target", "class", "diagnosis"),
    "mask": ("mask", "mask_path", "segmentation"),
    "split": ("split", "partition"),
}
_MISSING = ["", "NA", "N/A", "NaN", "nan", "NULL"]
_MOST_CANDIDATE_VALUES = 20


@dataclass(frozen=True)
class Roles:
    """The manifest's column for each role; one label column makes a single-label task, several a multi-label one.

    `targets`, if there are any, make it a regression and take the place of labels; `file` is empty where the rows are
    of one archive.
    """

    file: str
    subject: str | None
    split: str | None
    mask: str | None
    labels: tuple[str, ...]
    targets: tuple[str, ...] = ()


def is_manifest(uri: str) -> bool:
    """Whether the address is a manifest's, by its suffix."""
    return uri.lower().endswith(MANIFEST_SUFFIXES)


def open_manifest(uri: str, opening: Opening) -> Cohort:
    """Open a manifest; files are looked up in its folder, then in `images/` (masks in `masks/`).

    Columns are found by their usual names or by `columns` (role or attribute to column), `labels` and `targets` (of a
    regression); separators are commas, semicolons or tabs. Without a label column, a mask column makes the task
    segmentation; without either, the only column of 0 and 1 is the label. Not `labelled`, none is looked for. Columns
    of `markers` become vectors beside the images. The files are images or meshes. Raises InputError, with the row (the
    header is row 1), for missing files, repeated files, unfit labels or markers, and unknown splits.
    """
    columns, markers = opening.columns, opening.markers
    path = Path(uri)
    table = read_table(path)
    roles = find_roles(path, table, columns, opening.labels, opening.targets, labelled=opening.labelled)
    splits = find_splits(path, table, roles.split)
    unlabelled = [split == "unlabelled" for split in splits]
    task, classes, row_labels = read_labels(path, table, roles, unlabelled)
    locators = _locators(path, table, roles, unlabelled)
    attributes = row_attributes(table, roles, columns, without=measurements(markers))
    subjects = [None] * len(table) if roles.subject is None else texts(table, roles.subject)
    files = [str(file) for file in table[roles.file]]
    rows = zip(files, subjects, splits, row_labels, attributes, locators, strict=True)
    entries = [Entry(*row) for row in rows]
    has_subjects, first = roles.subject is not None, locators[0].image
    if is_mesh(first):
        if markers:
            raise InputError(f"{path}: --marker goes with images, and these are surfaces: leave it out")
        reader = SurfaceReader(opening.surfaces.preparation())
        meshes = [replace(entry, locator=MeshFile(entry.locator.image)) for entry in entries]
        return Cohort(
            uri, manifest_name(path), task, classes, meshes, reader.channels, 1, has_subjects, reader,
        )  # fmt: skip
    spatial, channels = read_header(first)
    cohort = Cohort(
        uri, manifest_name(path), task, classes, entries,
        {"image": channels}, len(spatial), has_subjects, FileReader(channels),
    )  # fmt: skip
    return with_markers(cohort, path, table, markers, range(len(table))) if markers else cohort


def row_attributes(
    table: "pandas.DataFrame", roles: Roles, columns: Mapping[str, str], without: Collection[str] = ()
) -> list[dict[str, str]]:
    """Of each row, the attributes in the columns that have no role, and are not `without`."""
    used = {roles.file, roles.subject, roles.split, roles.mask, *roles.labels, *roles.targets, *without}
    names = {column: role for role, column in columns.items() if role not in _ALIASES}
    return attribute_rows(table, [str(name) for name in table.columns if name not in used], names)


def manifest_name(path: Path) -> str:
    """The cohort's name: the manifest's, or its folder's where it is called no more than that."""
    return path.resolve().parent.name if path.stem in ("manifest", "data") else path.stem


def manifest_images(uri: str, columns: Mapping[str, str]) -> list[tuple[str, Path]]:
    """Each row's file, as it is written there and as a path; nothing but the file column is needed.

    Raises InputError for an unreadable manifest, no file column and missing files.
    """
    path, table, present, named = _listed(uri, columns)
    files = texts(table, find_file_column(path, present, named))
    return [(file, find_image(path, row, file)) for row, file in enumerate(files, start=2) if file is not None]


def manifest_rows(uri: str, columns: Mapping[str, str]) -> tuple[list[dict[str, str]], str]:
    """The cells of each image of `manifest_images` as they are written, without a mask's, and the file column."""
    path, table, present, named = _listed(uri, columns)
    file = find_file_column(path, present, named)
    kept = [name for name in present if name != find_column(path, present, named, "mask")]
    cells = {name: texts(table, name) for name in kept}
    rows = [{name: cells[name][row] or "" for name in kept} for row in range(len(table))]
    return [row for row in rows if row[file]], file


def manifest_markers(uri: str, columns: Mapping[str, str], markers: Mapping[str, str]) -> list[dict[str, np.ndarray]]:
    """The vectors "markers" and "missing" of each image of `manifest_images`, of markers as declared.

    Raises InputError with the row for a cell that does not fit its declaration, or without such a column.
    """
    path, table, present, named = _listed(uri, columns)
    files = texts(table, find_file_column(path, present, named))
    rows = zip(files, *read_markers(path, table, parse_markers(markers)), strict=True)
    return [{"markers": values, "missing": missing} for file, values, missing in rows if file is not None]


def _listed(uri: str, columns: Mapping[str, str]) -> "tuple[Path, pandas.DataFrame, list[str], dict[str, str]]":
    """A manifest to predict on, its columns, and those of them that the training named, by role."""
    path = Path(uri)
    table = read_table(path)
    present = [str(name) for name in table.columns]
    return path, table, present, {role: column for role, column in columns.items() if column in present}


def read_table(path: Path) -> "pandas.DataFrame":
    """Every cell as text without spaces around it, or missing; raises InputError for what is no table with rows."""
    # Imported here: pandas takes a third of a second, and only manifests need it.
    import pandas

    try:
        if path.suffix.lower() == ".parquet":
            # Whole numbers stored as floats (a column with gaps) must not turn patient 12 into "12.0".
            table = pandas.read_parquet(path).convert_dtypes()
        else:
            table = pandas.read_csv(
                path, sep=_separator(path), dtype=str, keep_default_na=False, na_values=_MISSING, encoding="utf-8-sig"
            )
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason}); save it as CSV in UTF-8") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable manifest ({error})") from error
    if table.empty:
        raise InputError(f"{path}: the manifest has no rows; list one record a row")
    for name in table.columns:
        text = table[name].astype("string").str.strip()
        table[name] = text.mask(text == "").astype(object)
    return table


def _separator(path: Path) -> str:
    """A comma, unless the header has more semicolons or tabs."""
    with path.open(encoding="utf-8-sig") as file:
        header = file.readline()
    return max(",;\t", key=header.count)


def texts(table: "pandas.DataFrame", column: str) -> list[str | None]:
    """The cells of a column."""
    return [value if isinstance(value, str) else None for value in table[column]]


def find_roles(
    path: Path,
    table: "pandas.DataFrame",
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
    if labels and targets:
        raise InputError(f"{path}: --label is for classes, --target for numbers; say one of them")
    present = [str(name) for name in table.columns]
    for role in columns:
        if role not in _ALIASES and (meant := get_close_matches(role, _ALIASES, 1, 0.75)):
            raise InputError(f"{path}: --column {role}=…: did you mean {meant[0]}?")
    for named in (*columns.values(), *labels, *targets):
        if named not in present:
            raise InputError(f"{path}: no column {named!r}; the columns are {', '.join(present)}")
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"{path}: --label {label} is named twice")

    file = find_file_column(path, present, columns) if files else ""
    find = partial(find_column, path, present, columns)
    subject, split = find("subject"), find("split")
    if not labelled:
        return Roles(file, subject, split, None, ())
    asked = tuple(labels) or ((columns["label"],) if "label" in columns and not targets else ())
    mask = find("mask")
    if not asked and mask is None and not targets:
        asked = (find("label") or _only_binary_column(path, table, {file, subject, split, *columns.values()}),)
    for label in (*asked, *targets):
        if label in (file, subject, split, mask):
            raise InputError(
                f"{path}: the column {label} cannot be the label; it tells files, subjects or splits apart"
            )
    return Roles(file, subject, split, mask, asked, tuple(targets))


def find_file_column(path: Path, present: Sequence[str], columns: Mapping[str, str]) -> str:
    """The column of the files; raises InputError if there is none."""
    file = find_column(path, present, columns, "file")
    if file is None:
        raise InputError(f"{path}: no file column among {', '.join(present)}; say which ({_option('file')})")
    return file


def find_column(path: Path, present: Sequence[str], columns: Mapping[str, str], role: str) -> str | None:
    """The column named for a role, or the one with a usual name; raises InputError if there are several."""
    if role in columns:
        return columns[role]
    found = [name for name in present if name.lower() in _ALIASES[role]]
    if len(found) > 1:
        raise InputError(f"{path}: {' and '.join(found)} may each be the {role} column; say which ({_option(role)})")
    return found[0] if found else None


def _option(role: str) -> str:
    return "`--label NAME`" if role == "label" else f"`--column {role}=NAME`"


def _only_binary_column(path: Path, table: "pandas.DataFrame", taken: set[str | None]) -> str:
    free = [str(name) for name in table.columns if name not in taken]
    binary = [name for name in free if looks_binary(texts(table, name))]
    if len(binary) == 1:
        return binary[0]
    candidates = binary or [name for name in free if 2 <= table[name].nunique() <= _MOST_CANDIDATE_VALUES]
    listed = ", ".join(candidates) or "none"
    raise InputError(f"{path}: which column is the label? Say `--label NAME`; candidates: {listed}")


def find_splits(path: Path, table: "pandas.DataFrame", column: str | None) -> list[str | None]:
    """The split of each row, None where none is given; raises InputError for an unknown one."""
    if column is None:
        return [None] * len(table)
    splits = []
    for row, name in enumerate(texts(table, column), start=2):
        split = None if name is None else canonical_split(name)
        if name is not None and split is None:
            raise InputError(
                f"{path}, row {row}: unknown split {name!r} in column {column}; "
                "use train, val, test, public or unlabelled"
            )
        splits.append(split)
    return splits


def read_labels(
    path: Path, table: "pandas.DataFrame", roles: Roles, unlabelled: list[bool]
) -> tuple[Task, tuple[str, ...], Sequence[int | tuple[float, ...] | None]]:
    """Task, classes and the label of each row, None where it is unlabelled or has a mask alone.

    Raises InputError with the row for a label that does not fit.
    """
    if roles.targets:
        numbers = {name: texts(table, name) for name in roles.targets}
        return "regression", roles.targets, target_values(path, numbers, unlabelled)
    if roles.mask is None and not roles.labels:
        return "restoration", ("intensity",), [None] * len(table)
    if not roles.labels:
        return "segmentation", ("background", "foreground"), [None] * len(table)
    if len(roles.labels) > 1:
        values = {name: texts(table, name) for name in roles.labels}
        return "multi-label", roles.labels, multi_labels(path, values, unlabelled)
    name = roles.labels[0]
    given, masks = texts(table, name), [None] * len(table) if roles.mask is None else texts(table, roles.mask)
    without = [own or (v is None and m is not None) for own, v, m in zip(unlabelled, given, masks, strict=True)]
    classes, labels = class_labels(path, name, given, without)
    return ("binary" if len(classes) == 2 else "multi-class"), classes, labels


def _locators(path: Path, table: "pandas.DataFrame", roles: Roles, unlabelled: list[bool]) -> list[FileLocator]:
    files = texts(table, roles.file)
    masks = [None] * len(table) if roles.mask is None else texts(table, roles.mask)
    locators: list[FileLocator] = []
    rows: dict[Path, int] = {}
    for row, (file, mask) in enumerate(zip(files, masks, strict=True), start=2):
        if file is None:
            raise InputError(f"{path}, row {row}: the column {roles.file} is empty; name the image or remove the row")
        image = find_image(path, row, file)
        if image in rows:
            raise InputError(f"{path}, row {row}: {file} is listed already in row {rows[image]}; remove one of the two")
        rows[image] = row
        if roles.mask is not None and not roles.labels and mask is None and not unlabelled[row - 2]:
            raise InputError(f"{path}, row {row}: no mask in column {roles.mask}; add it, or give the split unlabelled")
        locators.append(FileLocator(image, None if mask is None else find_mask(path, row, mask, image)))
    return locators
