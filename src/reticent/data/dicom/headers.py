"""What is kept of a DICOM file without its pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom import Dataset

IDENTIFYING = (
    "PatientName", "PatientBirthDate", "PatientBirthTime", "PatientAddress", "PatientTelephoneNumbers",
    "PatientMotherBirthName", "OtherPatientIDs", "OtherPatientNames", "MedicalRecordLocator", "CountryOfResidence",
    "EthnicGroup", "Occupation", "AdditionalPatientHistory", "PatientComments", "ImageComments", "StudyComments",
    "AccessionNumber", "StudyID", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "AdmittingDate",
    "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName", "DeviceSerialNumber",
    "ReferringPhysicianName", "RequestingPhysician", "PerformingPhysicianName", "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy", "OperatorsName", "RequestAttributesSequence",
)  # fmt: skip
"""Attributes of the basic confidentiality profile (DICOM PS3.15, table E.1-1) that tell most of a person."""

_TEXTS = {
    "sop_uid": "SOPInstanceUID", "study": "StudyInstanceUID", "series": "SeriesInstanceUID", "patient": "PatientID",
    "accession": "AccessionNumber", "modality": "Modality", "description": "SeriesDescription",
    "kernel": "ConvolutionKernel", "series_number": "SeriesNumber", "photometric": "PhotometricInterpretation",
    "acquisition": "AcquisitionNumber", "time_point": "TemporalPositionIdentifier",
    "frame_of_reference": "FrameOfReferenceUID", "sex": "PatientSex", "age": "PatientAge",
    "burned_in": "BurnedInAnnotation",
}  # fmt: skip
_NUMBERS = {"echo_time": "EchoTime", "b_value": "DiffusionBValue"}
_TAGS = [
    *_TEXTS.values(), *_NUMBERS.values(), *IDENTIFYING,
    "SOPClassUID", "ImageType", "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "BitsAllocated",
    "SliceThickness", "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "ImagerPixelSpacing",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "SpecificCharacterSet",
]  # fmt: skip


@dataclass(frozen=True)
class Header:
    """One image file; texts are empty and numbers None where the file has none.

    `positions` has the position (mm, patient coordinates) of each frame that has one, `orientation` the six direction
    cosines that all frames share; `mixed` says that they do not. `spacing` is that of rows and of columns in mm.
    `person` is a digest of name and birth date; `identifying` lists the identifying attributes that hold a value.
    """

    path: str
    sop_class: str
    sop_uid: str
    study: str
    series: str
    patient: str
    accession: str
    modality: str
    description: str
    kernel: str
    series_number: str
    photometric: str
    acquisition: str
    time_point: str
    frame_of_reference: str
    sex: str
    age: str
    burned_in: str
    thickness: float | None
    echo_time: float | None
    b_value: float | None
    image_type: tuple[str, ...]
    transfer_syntax: str
    rows: int
    columns: int
    samples: int
    frames: int
    spacing: tuple[float, ...]
    orientation: tuple[float, ...]
    positions: tuple[tuple[float, ...], ...]
    mixed: bool
    person: str
    identifying: tuple[str, ...]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Header:
        """The header whose fields went through JSON."""
        fixed: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        fixed["positions"] = tuple(tuple(position) for position in values["positions"])
        return cls(**fixed)


def read_header(root: Path, path: str) -> Header | str:
    """The header of the file `path` below `root`, or in one line why it is no image."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        dataset = dcmread(root / path, stop_before_pixels=True, specific_tags=_TAGS)
        return _header(path, dataset)
    except InvalidDicomError:
        return NOT_DICOM
    except OSError as error:
        return f"{UNREACHABLE} ({error.strerror or error})"
    # A broken file raises whatever its bytes lead the parser to; it must not end the reading of all others.
    except Exception as error:
        return f"broken header ({type(error).__name__}: {' '.join(str(error).split())[:120]})"


NOT_DICOM = "no DICOM file"
UNREACHABLE = "cannot be read"
"""What the reason of a file begins with that may be read another time."""


def _header(path: str, dataset: Dataset) -> Header | str:
    sop_class = str(dataset.get("SOPClassUID", ""))
    syntax = getattr(dataset, "file_meta", {}).get("TransferSyntaxUID")
    if not dataset.get("Rows") or not dataset.get("Columns"):
        return f"no image ({_kind(dataset)})"
    if syntax is None:
        return "the transfer syntax is missing, so that its pixels cannot be decoded"
    shared, frames = _groups(dataset)
    orientations = _of_frames(dataset, shared, frames, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    positions = _of_frames(dataset, shared, frames, "PlanePositionSequence", "ImagePositionPatient", 3)
    spacings = _of_frames(dataset, shared, frames, "PixelMeasuresSequence", "PixelSpacing", 2)
    thicknesses = _of_frames(dataset, shared, frames, "PixelMeasuresSequence", "SliceThickness", 1)
    spacing = spacings[0] if spacings else _numbers(dataset.get("ImagerPixelSpacing"), 2)
    values: dict[str, Any] = {name: _text(dataset, keyword) for name, keyword in _TEXTS.items()}
    values |= {name: _number(dataset.get(keyword)) for name, keyword in _NUMBERS.items()}
    person = f"{_text(dataset, 'PatientName')}|{_text(dataset, 'PatientBirthDate')}"
    known = all(_text(dataset, keyword) for keyword in ("PatientName", "PatientBirthDate"))
    return Header(
        path=path,
        sop_class=sop_class,
        image_type=tuple(str(part).upper() for part in _list(dataset.get("ImageType"))),
        transfer_syntax=str(syntax),
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        samples=int(dataset.get("SamplesPerPixel") or 1),
        frames=int(dataset.get("NumberOfFrames") or 1),
        thickness=thicknesses[0][0] if thicknesses else None,
        spacing=spacing,
        orientation=orientations[0] if orientations else (),
        positions=tuple(positions),
        mixed=len({tuple(round(x, 3) for x in each) for each in orientations}) > 1,
        person=hashlib.sha256(person.casefold().encode()).hexdigest()[:16] if known else "",
        identifying=tuple(keyword for keyword in IDENTIFYING if dataset.get(keyword)),
        **values,
    )


def _kind(dataset: Dataset) -> str:
    from pydicom.uid import UID

    stored = getattr(dataset, "file_meta", {}).get("MediaStorageSOPClassUID", "")
    sop_class = UID(str(dataset.get("SOPClassUID", stored)))
    return sop_class.name or _text(dataset, "Modality") or "of an unknown kind"


def _groups(dataset: Dataset) -> tuple[Any, list[Any]]:
    """The functional groups shared by all frames, and those of each frame, of an enhanced multi-frame file."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or [None]
    return shared[0], list(dataset.get("PerFrameFunctionalGroupsSequence") or [])


def _of_frames(
    dataset: Dataset, shared: Any, frames: list[Any], sequence: str, keyword: str, count: int
) -> list[tuple[float, ...]]:
    """An attribute's numbers for each frame (one set for them all, if it is shared), without those that are missing."""
    items = [group.get(sequence) or (shared.get(sequence) if shared is not None else None) for group in frames]
    found = [_numbers(item[0].get(keyword), count) for item in items if item] or [_numbers(dataset.get(keyword), count)]
    return [numbers for numbers in found if numbers]


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else "\\".join(str(part).strip() for part in _list(value)).strip()


def _list(value: Any) -> list[Any]:
    from pydicom.multival import MultiValue

    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def _number(value: Any) -> float | None:
    numbers = _list(value)
    return float(numbers[0]) if numbers else None


def _numbers(value: Any, count: int) -> tuple[float, ...]:
    """`count` numbers, or none at all."""
    numbers = tuple(float(part) for part in _list(value))
    return numbers if len(numbers) == count else ()
