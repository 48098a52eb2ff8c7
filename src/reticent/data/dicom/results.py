"""Writes what a model says of a DICOM record as DICOM: masks as segmentations, probabilities as structured reports."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation, ornt_transform

from reticent.data.dicom.series import Series
from reticent.errors import InputError, first_line

if TYPE_CHECKING:
    from pydicom import Dataset

Write = Callable[[Path], None]
"""Writes one whole file at a path."""

_SCHEME = "99RETICENT"  # names that begin with 99 are private (PS3.16, section 8)
_CODE_LENGTH = 16
_MAKER = "Reticent"
_SERIES_NUMBER = 9000
_MAY_BE_EMPTY = (
    "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime", "AccessionNumber",
    "ReferringPhysicianName", "PositionReferenceIndicator",
)  # fmt: skip
"""Attributes of type 2: they must be there, and files that were de-identified leave them out."""


def segmentation(root: Path, series: Series, mask: np.ndarray, labels: Sequence[str], model: str) -> Write:
    """A DICOM segmentation (SEG) of a decoded record: one binary segment for each foreground label, empty or not.

    Args:
        root: folder of the cohort.
        mask: int (X, Y, Z) on the canonical grid of a volume, or (H, W) of a flat image.
        labels: of the values of the mask, background first; they become the names of segments.
        model: what drew the mask; goes into the file.

    Raises:
        InputError: the images lack what a segmentation must refer to, as a frame of reference.
    """
    import highdicom
    from pydicom.sr.codedict import codes

    frames = np.stack([stored_frames(mask == label, series) for label in range(1, len(labels))], -1)
    algorithm = highdicom.AlgorithmIdentificationSequence(model, codes.DCM.ArtificialIntelligence, _version())
    segments = [
        highdicom.seg.SegmentDescription(number, name, codes.SCT.Tissue, _code(name), "AUTOMATIC", algorithm)
        for number, name in enumerate(labels[1:], start=1)
    ]
    with _as_input_errors(series):
        sources = _headers(root, series)
        made = highdicom.seg.Segmentation(
            sources,
            frames if series.slices[0][1] is None else _in_order_of_frames(frames, series),
            "BINARY",
            segments,
            series_description=model,
            **_identity(),
        )
    return made.save_as


def structured_report(root: Path, series: Series, values: Mapping[str, float], model: str) -> Write:
    """A structured report (SR, template 1500) of numbers about a record as a whole, such as class probabilities.

    Raises:
        InputError: the images lack what a report must refer to.
    """
    import highdicom
    from highdicom import sr
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    device = sr.DeviceObserverIdentifyingAttributes(generate_uid(), name=model, manufacturer_name=_MAKER)
    observer = sr.ObserverContext(codes.DCM.Device, device)
    algorithm = sr.AlgorithmIdentification(model, _version())
    with _as_input_errors(series):
        sources = _headers(root, series)
        group = sr.MeasurementsAndQualitativeEvaluations(
            sr.TrackingIdentifier(generate_uid(), series.key),
            algorithm_id=algorithm,
            measurements=[sr.Measurement(_code(name), value, codes.UCUM.NoUnits) for name, value in values.items()],
            source_images=[
                sr.SourceImageForMeasurementGroup(source.SOPClassUID, source.SOPInstanceUID) for source in sources
            ],
        )
        content = sr.MeasurementReport(sr.ObservationContext(None, observer), codes.LN.DiagnosticImagingReport, [group])
        made = highdicom.sr.EnhancedSR(sources, content, series_description=model, **_identity(of_image=False))
    return made.save_as


def stored_frames(mask: np.ndarray, series: Series) -> np.ndarray:
    """A mask on the decoded grid as frames (slices, rows, columns) in the order of the series' slices."""
    if series.affine is None:
        return mask[None]
    decoded = np.array([[0, 1], [1, 1], [2, 1]])
    stored: np.ndarray = apply_orientation(mask, ornt_transform(decoded, io_orientation(series.affine)))
    return stored.transpose(2, 1, 0)


def _in_order_of_frames(frames: np.ndarray, series: Series) -> np.ndarray:
    """Of one file of several frames: all its frames, as they lie in the file."""
    inside = np.array([frame for _, frame in series.slices])
    ordered = np.zeros_like(frames)
    ordered[inside] = frames
    return ordered


def _headers(root: Path, series: Series) -> list[Dataset]:
    from pydicom import dcmread

    found: list[Dataset] = [dcmread(root / path, stop_before_pixels=True) for path in series.files]
    for header in found:
        for keyword in _MAY_BE_EMPTY:
            if keyword not in header:
                setattr(header, keyword, "")
    return found


def _identity(of_image: bool = True) -> dict[str, Any]:
    """New identifiers, and who made the file."""
    from pydicom.uid import generate_uid

    own = {"manufacturer_model_name": _MAKER, "software_versions": _version(), "device_serial_number": "1"}
    return {
        "series_instance_uid": generate_uid(),
        "series_number": _SERIES_NUMBER,
        "sop_instance_uid": generate_uid(),
        "instance_number": 1,
        "manufacturer": _MAKER,
        **(own if of_image else {}),
    }


def _code(name: str) -> Any:
    from highdicom.sr import CodedConcept

    value = name if len(name) <= _CODE_LENGTH else hashlib.sha256(name.encode()).hexdigest()[:_CODE_LENGTH]
    return CodedConcept(value, _SCHEME, name[:64])


def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version("reticent")


@contextmanager
def _as_input_errors(series: Series) -> Iterator[None]:
    """What highdicom misses in the images, in one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what pydicom forgives a file
            yield
    except (AttributeError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{series.key}: its images lack what DICOM results must refer to ({first_line(error)}); write NIfTI or CSV"
        ) from error
