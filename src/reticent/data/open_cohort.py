"""Recognises a cohort from its address and opens it with the reader for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from reticent.data.cohort import Cohort
from reticent.data.detection import is_detection, open_detection
from reticent.data.dicom import is_dicom, open_dicom
from reticent.data.folder import open_folder
from reticent.data.manifest import MANIFEST_SUFFIXES, is_manifest, open_manifest
from reticent.data.markers import parse_markers
from reticent.data.medmnist import open_medmnist, open_npz
from reticent.data.msd import is_msd, open_msd
from reticent.data.nnunet import is_nnunet, open_nnunet
from reticent.data.opening import Opening, Progress
from reticent.data.phantom import open_phantom
from reticent.data.surfaces.bundle import is_bundle
from reticent.data.surfaces.opening import SCHEME, as_surfaces, open_bundle
from reticent.data.surfaces.reader import SurfaceOptions
from reticent.data.units import with_record_subjects
from reticent.data.validation import check_classes, check_splits, check_subjects
from reticent.errors import InputError

_FLAGS = {"columns": "--column", "labels": "--label", "markers": "--marker", "targets": "--target"}


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
    predicting: bool = False,
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
    key and reads no image, for what charges nothing. `strict=False`, for inspection, also opens a cohort without
    subjects or training records, with one class or one subject, or with a subject in several splits. `predicting` goes
    further: labels, splits and subjects are not looked at, and tables beside DICOM or boxes are read for `markers`
    alone.
    With `pretrain` labels and masks are not looked at: the task is to restore hidden parts of the images, and records
    of the split unlabelled are trained on as well.
    `progress(stage, done, total)` is told of long work.
    Raises InputError for anything else that is wrong.
    """
    opening = Opening(
        columns or {}, labels or (), parse_markers(markers or {}), tuple(targets or ()), surfaces or SurfaceOptions(),
        download, strict and not predicting, not (pretrain or predicting), progress,
    )  # fmt: skip
    cohort = _read(uri, opening)
    if pretrain:
        cohort = _for_restoration(cohort)
    if cohort.task == "regression":
        cohort = _with_ranges(cohort, targets or {}, opening.strict)
    check_splits(cohort, for_training=opening.strict)
    if unit == "record":
        cohort = with_record_subjects(cohort, hashed=hashed)
    elif opening.strict or (cohort.has_subjects and not predicting):
        check_subjects(cohort, overlap_allowed=not opening.strict)
    if opening.strict:
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


def _read(uri: str, opening: Opening) -> Cohort:
    for form in _FORMS:
        if form.recognises(uri):
            for option, flag in _FLAGS.items():
                if getattr(opening, option) and option not in form.takes:
                    fit = ", ".join(each.name for each in _FORMS if option in each.takes)
                    raise InputError(f"{uri}: {flag} goes with {fit}; leave it out")
            return form.read(uri, opening)
    if Path(uri).exists():
        raise InputError(
            f"{uri}: not a known kind of cohort; use a folder, a manifest (.csv, .parquet) or a MedMNIST .npz"
        )
    raise InputError(f"{uri}: no such file or folder; also known: dicom:FOLDER, medmnist:NAME and phantom:chest")


def _read_surfaces(uri: str, opening: Opening) -> Cohort:
    inner = uri.removeprefix(SCHEME)
    known = opening.targets if is_manifest(inner) else ()  # of masks, targets are the volumes of their labels
    return as_surfaces(_read(inner, replace(opening, targets=known)), uri, opening)


def _alone(read: Callable[[str], Cohort]) -> Callable[[str, Opening], Cohort]:
    """The reader of a form that takes no options."""
    return lambda uri, _: read(uri)


@dataclass(frozen=True)
class _Form:
    """A form of cohort: which addresses have it, who reads it, and which options that name columns it takes."""

    name: str
    recognises: Callable[[str], bool]
    read: Callable[[str, Opening], Cohort]
    takes: tuple[str, ...] = ()


# The first row that recognises the address is the form; a new form is one row.
_FORMS = (
    _Form("surfaces", lambda uri: uri.startswith(SCHEME), _read_surfaces, ("columns", "labels", "targets")),
    _Form("DICOM (labels=FILE)", is_dicom, open_dicom, tuple(_FLAGS)),
    _Form("boxes (table=FILE)", is_detection, open_detection, ("columns",)),
    _Form(f"a manifest ({', '.join(MANIFEST_SUFFIXES)})", is_manifest, open_manifest, tuple(_FLAGS)),
    _Form("an archive of meshes", is_bundle, open_bundle, ("columns", "labels", "targets")),
    _Form("MedMNIST", lambda uri: uri.startswith("medmnist:"), lambda uri, o: open_medmnist(uri, o.download)),
    _Form("MedMNIST file", lambda uri: uri.endswith(".npz"), _alone(open_npz)),
    _Form("phantom", lambda uri: uri.startswith("phantom:"), _alone(open_phantom)),
    _Form("nnU-Net", is_nnunet, _alone(open_nnunet)),
    _Form("Decathlon", is_msd, _alone(open_msd)),
    _Form("folder of classes", lambda uri: Path(uri).is_dir(), _alone(open_folder)),
)
