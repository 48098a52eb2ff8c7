"""Recognises a cohort from its address and opens it with the reader for it."""

from collections.abc import Callable, Mapping, Sequence
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
    markers: Mapping[str, str] | None = None,
    unit: Literal["subject", "record"] = "subject",
    download: bool = False,
    strict: bool = True,
    hashed: bool = True,
    progress: Progress | None = None,
) -> Cohort:
    """Open the cohort at `uri` without decoding pixels.

    `uri` is a folder of class folders, an MSD or nnU-Net folder, a folder of DICOM files (`dicom:FOLDER?rule=value`), a
    manifest (.csv, .parquet), a MedMNIST `.npz`, `medmnist:NAME` or `phantom:chest`; or of boxes a VOC folder, a COCO
    file or an Oktoberfest folder (`boxes:PATH?rule=value`). `columns` maps roles (file,
    subject, label, mask, split) and attributes to a manifest's columns; `labels` names its label columns, several for a
    multi-label task, `markers` columns beside the images (`reticent.data.markers`). `download` allows fetching a
    MedMNIST set.
    With `unit="record"` every record is its own subject, named by the hash of its image; `hashed=False` names it by its
    key and reads no image, for what charges nothing. `strict=False`, for inspection and prediction, also opens a
    cohort without subjects or training records, with one class or one subject, or with a subject in several splits.
    `progress(stage, done, total)` is told of long work.
    Raises InputError for anything else that is wrong.
    """
    cohort = _read(uri, columns or {}, labels or (), parse_markers(markers or {}), download, strict, progress)
    check_splits(cohort, for_training=strict)
    if unit == "record":
        cohort = with_record_subjects(cohort, hashed=hashed)
    elif strict or cohort.has_subjects:
        check_subjects(cohort, overlap_allowed=not strict)
    if strict:
        check_classes(cohort)
    return cohort


def _read(
    uri: str,
    columns: Mapping[str, str],
    labels: Sequence[str],
    markers: Sequence[Marker],
    download: bool,
    strict: bool,
    progress: Progress | None,
) -> Cohort:
    if uri.lower().endswith(MANIFEST_SUFFIXES) and not is_dicom(uri) and not is_detection(uri):
        return open_manifest(uri, columns, labels, markers)
    if markers:
        raise InputError(f"{uri}: --marker names columns of a manifest ({', '.join(MANIFEST_SUFFIXES)}); drop it")
    if is_dicom(uri):
        return open_dicom(uri, columns, labels, strict=strict, progress=progress)
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
