"""Writes DICOM as hospitals have it: many patients, several series each, and every defect on request."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian

CT, MR, DX = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.1.1"
SECONDARY, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.2.1"
AXIAL, CORONAL, SAGITTAL = (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)
ROOT = "1.2.826.0.1.3680043.8.498"


def uid(*parts: int) -> UID:
    return UID(".".join((ROOT, *map(str, parts))))


def voxels(seed: int, shape: tuple[int, int, int] = (6, 8, 10)) -> np.ndarray:
    """Stored values (slices, rows, columns)."""
    return np.random.default_rng(seed).integers(0, 2000, shape, np.int16)


def image(pixels: np.ndarray, **attributes: Any) -> FileDataset:
    """A single-frame grey or colour image; attributes by keyword."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = attributes.setdefault("SOPClassUID", CT)
    meta.MediaStorageSOPInstanceUID = attributes["SOPInstanceUID"]
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    bits = 8 * pixels.dtype.itemsize
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    dataset.SamplesPerPixel = 3 if colour else 1
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, int(pixels.dtype.kind == "i")
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = pixels.tobytes()
    return dataset


def write_series(
    folder: Path,
    patient: int,
    series: int,
    *,
    volume: np.ndarray | None = None,
    study: int = 1,
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (-10.0, -20.0, 30.0),
    step: float = 2.5,
    heights: Sequence[float] | None = None,
    seed: int = 0,
    **attributes: Any,
) -> list[Path]:
    """One file a slice, in an order that neither names nor instance numbers tell; the paths in the order of slices."""
    volume = voxels(1000 * patient + series) if volume is None else volume
    normal = np.cross(orientation[:3], orientation[3:])
    heights = step * np.arange(len(volume)) if heights is None else heights
    names = np.random.default_rng(seed).permutation(len(volume))
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k, (pixels, height) in enumerate(zip(volume, heights, strict=True)):
        common = {
            "PatientID": f"P{patient:03d}",
            "PatientName": f"Doe^{patient}",
            "PatientBirthDate": f"19{patient % 90 + 10}0101",
            "PatientSex": "MF"[patient % 2],
            "PatientAge": "067Y",
            "StudyInstanceUID": uid(patient, study),
            "SeriesInstanceUID": uid(patient, study, series),
            "SOPInstanceUID": uid(patient, study, series, k + 1),
            "AccessionNumber": f"A{patient:03d}{study}",
            "FrameOfReferenceUID": uid(patient, study, 99),
            "Modality": "CT",
            "SeriesDescription": f"series {series}",
            "SeriesNumber": series,
            "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
            "InstanceNumber": int(names[k]) + 1,
            "ConvolutionKernel": "STANDARD",
            "SliceThickness": step,
            "PixelSpacing": [0.75, 0.5],
            "ImageOrientationPatient": list(orientation),
            "ImagePositionPatient": [float(x) for x in np.asarray(origin) + height * normal],
            "RescaleSlope": 1,
            "RescaleIntercept": -1024,
        }
        chosen = {key: value for key, value in {**common, **attributes}.items() if value is not None}
        path = folder / f"s{patient}-{series}-{names[k]:03d}.dcm"
        image(pixels, **chosen).save_as(path)
        paths.append(path)
    return paths


def write_flat(path: Path, patient: int, pixels: np.ndarray, number: int = 1, **attributes: Any) -> Path:
    """A radiograph."""
    path.parent.mkdir(parents=True, exist_ok=True)
    common = {
        "SOPClassUID": DX,
        "PatientID": f"P{patient:03d}",
        "StudyInstanceUID": uid(patient, 1),
        "SeriesInstanceUID": uid(patient, 1, 1),
        "SOPInstanceUID": uid(patient, 1, 1, number),
        "Modality": "DX",
        "ImageType": ["DERIVED", "PRIMARY"],
    }
    image(pixels, **{**common, **attributes}).save_as(path)
    return path


def write_enhanced(
    path: Path, patient: int, volume: np.ndarray, step: float = 2.5, height: float = 30.0, number: int = 1
) -> np.ndarray:
    """An enhanced multi-frame CT whose frames are stored from the top down; the order of its frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shared, frames = Dataset(), []
    plane, measures = Dataset(), Dataset()
    plane.ImageOrientationPatient = list(AXIAL)
    measures.PixelSpacing, measures.SliceThickness = [0.75, 0.5], step
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = Items([plane]), Items([measures])
    order = np.arange(len(volume))[::-1]
    for k in order:
        position, values, frame = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [-10.0, -20.0, height + step * float(k)]
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1 + int(k), -1024, "HU"
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = Items([position]), Items([values])
        frames.append(frame)
    image(
        volume[order],
        SOPClassUID=ENHANCED_CT,
        PatientID=f"P{patient:03d}",
        StudyInstanceUID=uid(patient, 1),
        SeriesInstanceUID=uid(patient, 1, 1),
        SOPInstanceUID=uid(patient, 1, 1, number),
        Modality="CT",
        ImageType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        NumberOfFrames=len(volume),
        SharedFunctionalGroupsSequence=Items([shared]),
        PerFrameFunctionalGroupsSequence=Items(frames),
    ).save_as(path)
    return order


def write_labels(path: Path, patients: Sequence[int], *, key: str = "PatientID") -> Path:
    """Labels by patient (odd ones have the finding), and splits: of ten patients six to train with."""
    values = {"PatientID": "P{0:03d}", "StudyInstanceUID": f"{ROOT}.{{0}}.1", "AccessionNumber": "A{0:03d}1"}
    splits = [*["train"] * 6, "val", "val", "test", "test"]
    rows = [
        f"{values[key].format(patient)},{'finding' if patient % 2 else 'none'},{splits[patient % 10]}"
        for patient in patients
    ]
    path.write_text("\n".join((f"{key},diagnosis,split", *rows)) + "\n")
    return path
