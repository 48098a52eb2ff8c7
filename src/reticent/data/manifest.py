"""Cohorts listed in a table: a CSV or Parquet manifest with one row per record."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from reticent.data.cohort import Cohort, Entry
from reticent.data.files import FileLocator, FileReader, read_header
from reticent.data.lookup import find_image, find_mask
from reticent.data.markers import measurements, parse_markers, read_markers, with_markers
from reticent.data.opening import Opening
from reticent.data.roles import (
    Roles,
    find_column,
    find_file_column,
    find_roles,
    find_splits,
    read_labels,
    refuse_marked_labels,
    row_attributes,
)
from reticent.data.surfaces.mesh_files import is_mesh
from reticent.data.surfaces.reader import MeshFile, SurfaceReader
from reticent.data.table import Table, read_table
from reticent.errors import InputError

MANIFEST_SUFFIXES = (".csv", ".parquet")


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
    roles = find_roles(table, columns, opening.labels, opening.targets, labelled=opening.labelled)
    refuse_marked_labels(table, roles, (marker.name for marker in markers))
    splits = find_splits(table, roles.split)
    unlabelled = [split == "unlabelled" for split in splits]
    task, classes, row_labels = read_labels(table, roles, unlabelled)
    locators = _locators(table, roles, unlabelled)
    attributes = row_attributes(table, roles, columns, without=measurements(markers))
    files = map(str, table.column(roles.file))
    rows = zip(files, table.column(roles.subject), splits, row_labels, attributes, locators, strict=True)
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
    if alone := cohort.masks_alone:
        cohort = replace(cohort, remarks={"images with a mask and no label (--mask-weight learns from them)": alone})
    return with_markers(cohort, table, markers, range(len(table))) if markers else cohort


def manifest_name(path: Path) -> str:
    """The cohort's name: the manifest's, or its folder's where it is called no more than that."""
    return path.resolve().parent.name if path.stem in ("manifest", "data") else path.stem


def manifest_images(uri: str, columns: Mapping[str, str]) -> list[tuple[str, Path]]:
    """Each row's file, as it is written there and as a path; nothing but the file column is needed.

    Raises InputError for an unreadable manifest, no file column and missing files.
    """
    table, named = _listed(uri, columns)
    files = table.column(find_file_column(table, named))
    return [(file, find_image(table.path, row, file)) for row, file in enumerate(files, start=2) if file is not None]


def manifest_rows(uri: str, columns: Mapping[str, str]) -> tuple[list[dict[str, str]], str]:
    """The cells of each image of `manifest_images` as they are written, without a mask's, and the file column."""
    table, named = _listed(uri, columns)
    file, mask = find_file_column(table, named), find_column(table, named, "mask")
    kept = {name: table.column(name) for name in table.columns if name != mask}
    rows = [{name: cells[i] or "" for name, cells in kept.items()} for i in range(len(table))]
    return [row for row in rows if row[file]], file


def manifest_markers(uri: str, columns: Mapping[str, str], markers: Mapping[str, str]) -> list[dict[str, np.ndarray]]:
    """The vectors "markers" and "missing" of each image of `manifest_images`, of markers as declared.

    Raises InputError with the row for a cell that does not fit its declaration, or without such a column.
    """
    table, named = _listed(uri, columns)
    files = table.column(find_file_column(table, named))
    rows = zip(files, *read_markers(table, parse_markers(markers)), strict=True)
    return [{"markers": values, "missing": missing} for file, values, missing in rows if file is not None]


def _listed(uri: str, columns: Mapping[str, str]) -> tuple[Table, dict[str, str]]:
    """A manifest to predict on, and those of its columns that the training named, by role."""
    table = read_table(Path(uri))
    return table, {role: column for role, column in columns.items() if column in table.columns}


def _locators(table: Table, roles: Roles, unlabelled: list[bool]) -> list[FileLocator]:
    path = table.path
    locators: list[FileLocator] = []
    rows: dict[Path, int] = {}
    files = zip(table.column(roles.file), table.column(roles.mask), strict=True)
    for row, (file, mask) in enumerate(files, start=2):
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
