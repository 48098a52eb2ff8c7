"""Recognises a cohort from its address and opens it with the reader for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from reticent.data.cohort import Cohort
from reticent.data.detection import is_detection, open_detection
from reticent.data.dicom import is_dicom, open_dicom
from reticent.data.folder import open_folder
from reticent.data.manifest import MANIFEST_SUFFIXES, open_manifest
from reticent.data.markers import Marker, parse_markers
from reticent.data.medmnist import open_medmnist, open_npz
from reticent.data.msd import open_msd
from reticent.data.nnunet import is_nnunet, open_nnunet
from reticent.data.phantom import open_phantom
from reticent.data.surfaces.bundle import is_bundle
from reticent.data.surfaces.opening import SCHEME, as_surfaces, open_bundle
from reticent.data.surfaces.reader import SurfaceOptions
from reticent.data.units import with_record_subjects
from reticent.data.validation import check_classes, check_splits, check_subjects
from reticent.errors import InputError

Progress = Callable[[str, int, int], None]

# The first row whose test accepts the address names the reader; a new format is one row.
_READERS: tuple[tuple[Callable[[str], bool], Callable[[str], Cohort]], ...] = (
    (lambda uri: uri.startswith("phantom:"), open_phantom),
    (lambda uri: uri.endswith(".npz"), open_npz),
    (is_detection, open_detection),
    (is_nnunet, open_nnunet),
    (lambda uri: (Path(uri) / "dataset.json").is_file(), open_msd),
    (lambda uri: Path(uri).is_dir(), open_folder),
)


def open_cohort(
    uri: str,
    *,
    columns: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
    pretrain: bool = False,
    markers: Mapping[str, str] | None = None,
    targets: Mapping[str, tuple[float, float] | None] | None = None,
    surfaces: SurfaceOptions | None = None,
    unit: Literal["subject", "record"] = "subject",
    download: bool = False,
    strict: bool = True,
    hashed: bool = True,
    progress: Progress | None = None,
) -> Cohort:
    """Open the cohort at `uri` without decoding pixels.

    `uri` is a folder of class folders, an MSD or nnU-Net folder, a folder of DICOM files (`dicom:FOLDER?rule=value`), a
    manifest (.csv, .parquet), a MedMNIST `.npz`, `medmnist:NAME`, `phantom:chest`, an archive of meshes (`.npz`) or
    `surfaces:ADDRESS`, the masks of another cohort as surfaces; or of boxes a VOC folder, a COCO file or an Oktoberfest
    folder (`boxes:PATH?rule=value`). `columns` maps roles (file, subject, label, mask, split) and attributes to a
    manifest's columns; `labels` names its label columns, several for a multi-label task, `markers` columns beside the
    images (`reticent.data.markers`); `targets` the numbers of a regression, each with its declared range in its unit
    (None: not told, which is for inspection and prediction). `surfaces` says how meshes are prepared. `download` allows
    fetching a MedMNIST set.
    With `unit="record"` every record is its own subject, named by the hash of its image; `hashed=False` names it by its
    key and reads no image, for what charges nothing. `strict=False`, for inspection and prediction, also opens a
    cohort without subjects or training records, with one class or one subject, or with a subject in several splits.
    With `pretrain` labels and masks are not looked at: the task is to restore hidden parts of the images, and records
    of the split unlabelled are trained on as well.
    `progress(stage, done, total)` is told of long work.
    Raises InputError for anything else that is wrong.
    """
    declared = parse_markers(markers or {})
    numbers, surfaces = tuple(targets or ()), surfaces or SurfaceOptions()
    known = None if pretrain else labels or ()
    cohort = _read(uri, columns or {}, known, declared, numbers, surfaces, download, strict, progress)
    if pretrain:
        cohort = _for_restoration(cohort)
    if cohort.task == "regression":
        cohort = _with_ranges(cohort, targets or {}, strict)
    check_splits(cohort, for_training=strict)
    if unit == "record":
        cohort = with_record_subjects(cohort, hashed=hashed)
    elif strict or cohort.has_subjects:
        check_subjects(cohort, overlap_allowed=not strict)
    if strict:
        check_classes(cohort)
    return cohort


def _for_restoration(cohort: Cohort) -> Cohort:
    """The cohort without its labels, all of whose records may train but those that are held out."""
    entries = [
        replace(entry, label=None, split="train" if entry.split == "unlabelled" else entry.split)
        for entry in cohort.entries
    ]
    return replace(cohort, task="restoration", classes=("intensity",), entries=entries)


def _with_ranges(cohort: Cohort, targets: Mapping[str, tuple[float, float] | None], strict: bool) -> Cohort:
    """The cohort with the declared ranges of its targets, and what lies outside of them among its remarks."""
    declared = [targets[name] for name in cohort.classes]
    ranges = tuple(declare for declare in declared if declare is not None)
    if len(ranges) < len(declared):
        if strict:
            name = cohort.classes[declared.index(None)]
            raise InputError(
                f"--target {name}: declare the range that is possible, in its unit: --target {name}=LOW,HIGH; what is "
                "learned is standardised by it, for no statistic of private patients may be"
            )
        return cohort
    for name, (low, high) in zip(cohort.classes, ranges, strict=True):
        if not low < high:
            raise InputError(f"--target {name}={low:g},{high:g}: the first number must be the smaller one")
    outside = [
        f"{entry.key}: {name} {value:g}"
        for entry in cohort.entries
        if isinstance(entry.label, tuple)
        for name, value, (low, high) in zip(cohort.classes, entry.label, ranges, strict=True)
        if not low <= value <= high
    ]
    remarks = dict(cohort.remarks)
    if outside:
        remarks["targets outside their declared range (training takes its nearest end)"] = outside
    return replace(cohort, ranges=ranges, remarks=remarks)


def _read(
    uri: str,
    columns: Mapping[str, str],
    labels: Sequence[str] | None,
    markers: Sequence[Marker],
    targets: Sequence[str],
    surfaces: SurfaceOptions,
    download: bool,
    strict: bool,
    progress: Progress | None,
) -> Cohort:
    if uri.startswith(SCHEME):
        inner = uri.removeprefix(SCHEME)
        known = targets if inner.lower().endswith(MANIFEST_SUFFIXES) else ()
        masks = _read(inner, columns, labels, (), known, surfaces, download, strict, progress)
        return as_surfaces(masks, uri, targets, surfaces, progress)
    if uri.lower().endswith(MANIFEST_SUFFIXES) and not is_dicom(uri) and not is_detection(uri):
        return open_manifest(uri, columns, labels, markers, targets, surfaces)
    if markers:
        raise InputError(f"{uri}: --marker names columns of a manifest ({', '.join(MANIFEST_SUFFIXES)}); drop it")
    if is_dicom(uri):
        return open_dicom(uri, columns, labels or (), targets, strict=strict and labels is not None, progress=progress)
    if is_bundle(uri):
        return open_bundle(uri, columns, labels or (), targets, surfaces, strict=strict)
    if targets:
        raise InputError(f"{uri}: targets are columns of a manifest, of a table of DICOM or of meshes; list them there")
    if columns or labels:
        raise InputError(
            f"{uri}: column and label names apply to a manifest ({', '.join(MANIFEST_SUFFIXES)}) or DICOM only; drop "
            "them"
        )
    if uri.startswith("medmnist:"):
        return open_medmnist(uri, download)
    for recognises, reader in _READERS:
        if recognises(uri):
            return reader(uri)
    if Path(uri).exists():
        raise InputError(
            f"{uri}: not a known kind of cohort; use a folder, a manifest (.csv, .parquet) or a MedMNIST .npz"
        )
    raise InputError(f"{uri}: no such file or folder; also known: dicom:FOLDER, medmnist:NAME and phantom:chest")
