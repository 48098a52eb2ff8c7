"""Opens archives of meshes, and cohorts of masks as cohorts of their surfaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from reticent.data.cohort import Cohort, Entry, Reader
from reticent.data.manifest import manifest_name
from reticent.data.opening import Opening
from reticent.data.roles import find_roles, find_splits, read_labels, row_attributes
from reticent.data.surfaces.bundle import MeshBundle
from reticent.data.surfaces.reader import BundledMesh, MaskSurface, SurfaceReader
from reticent.data.table import read_table
from reticent.errors import InputError

SCHEME = "surfaces:"
_TABLES = ("targets.csv", "labels.csv", "manifest.csv")


def open_bundle(uri: str, opening: Opening) -> Cohort:
    """Open an archive of meshes with the table beside it: row k is of mesh k.

    The table is called as the archive with `.csv`, or targets.csv, labels.csv or manifest.csv, in the same folder; its
    columns are found as those of a manifest, but for the file. Not `strict`, and with neither labels nor targets named,
    no table is read. Raises InputError for a missing table and one of another
    number of rows.
    """
    path, columns = Path(uri), opening.columns
    bundle, reader = MeshBundle(path), SurfaceReader(opening.surfaces.preparation())
    if not (opening.strict or opening.labels or opening.targets):
        bare = [
            Entry(f"{path.name}/{k}", None, "unlabelled", None, {}, BundledMesh(bundle, k)) for k in range(len(bundle))
        ]
        return Cohort(uri, manifest_name(path), "regression", (), bare, reader.channels, 1, False, reader)
    table_path = _table_of(path)
    table = read_table(table_path)
    if len(table) != len(bundle):
        raise InputError(f"{table_path}: {len(table)} rows for the {len(bundle)} meshes of {path}; list each mesh once")
    roles = find_roles(table, columns, opening.labels, opening.targets, files=False)
    splits = find_splits(table, roles.split)
    task, classes, values = read_labels(table, roles, [split == "unlabelled" for split in splits])
    rows = zip(table.column(roles.subject), splits, values, row_attributes(table, roles, columns), strict=True)
    entries = [Entry(f"{path.name}/{k}", *row, BundledMesh(bundle, k)) for k, row in enumerate(rows)]
    return Cohort(
        uri, manifest_name(path), task, classes, entries, reader.channels, 1, roles.subject is not None, reader,
    )  # fmt: skip


def as_surfaces(masks: Cohort, uri: str, opening: Opening) -> Cohort:
    """The surfaces of the masks of a cohort: of the union of all labels, its largest part.

    A segmentation cohort gives its masks, and as targets the volumes of its labels in mm³; of another cohort of volumes
    the images are the masks, and labels and targets stay. Raises InputError for flat images and targets that are no
    labels, and naming the record for a mask that cannot be read.
    """
    if masks.ndim != 3:
        raise InputError(f"{uri}: surfaces are made of volumes, and these are images of {masks.ndim} dimensions")
    segmented, reader = masks.task == "segmentation", SurfaceReader(opening.surfaces.preparation())
    targets, progress = opening.targets, opening.progress
    entries: list[Entry] = []
    for done, entry in enumerate(masks.entries):
        locator = MaskSurface(masks.reader, entry.locator, entry.key, is_input=not segmented)
        label = _volumes(locator, masks.classes, targets, uri) if segmented and targets else entry.label
        entries.append(replace(entry, locator=locator, label=label))
        if progress is not None:
            progress("Measuring masks", done + 1, len(masks.entries))
    if segmented:
        masks = replace(masks, task="regression", classes=tuple(targets))
    surfaces: Reader = reader
    return replace(masks, uri=uri, entries=entries, channels=reader.channels, ndim=1, reader=surfaces)


def _volumes(
    locator: MaskSurface, classes: tuple[str, ...], targets: Sequence[str], uri: str
) -> tuple[float, ...] | None:
    """Volumes in mm³ of the labels called `targets`; None where there is no mask."""
    for name in targets:
        if name not in classes[1:]:
            raise InputError(
                f"{uri}: --target {name}: the targets of masks are the volumes of their labels, in mm³: "
                f"{', '.join(classes[1:])}"
            )
    mask, spacing = locator.mask()
    voxels = np.bincount(mask.ravel(), minlength=len(classes))
    return tuple(float(voxels[classes.index(name)] * np.prod(spacing)) for name in targets)


def _table_of(archive: Path) -> Path:
    for name in (f"{archive.stem}.csv", *_TABLES):
        if (path := archive.with_name(name)).is_file():
            return path
    raise InputError(
        f"{archive}: no table of its meshes beside it; put {archive.stem}.csv there, with one row for each mesh"
    )
