"""Pixels of one DICOM image, decoded by pydicom and its plug-ins, in the units of the file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reticent.errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset


def read_frames(path: Path, frames: list[int | None], *, voi: bool) -> list[np.ndarray]:
    """Float32 images (rows, columns), or (3, rows, columns) in colour scaled to [0, 1], of these frames of a file.

    Grey values are those after the modality look-up table or rescale slope and intercept of the file (or frame): CT
    comes in Hounsfield units. `voi` applies the file's own window instead and gives values in [0, 1]. MONOCHROME1 is
    turned over, so that bright is always a large value. Raises InputError naming the file if it cannot be decoded.
    """
    from pydicom import dcmread

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what pydicom forgives a file, for each of thousands
            dataset = dcmread(path)
            return [_frame(dataset, frame, voi) for frame in frames]
    # Decoders raise what their libraries raise: there is no list of it.
    except Exception as error:
        raise InputError(f"{path}: cannot be decoded ({_one_line(error)}); replace the file or leave it out") from error


def stored_bytes(path: Path) -> bytes:
    """The stored, maybe compressed, bytes of the pixels alone; raises InputError."""
    from pydicom import dcmread

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bytes(dcmread(path, specific_tags=["PixelData"]).PixelData)
    except Exception as error:
        raise InputError(f"{path}: cannot be read ({_one_line(error)}); replace the file or leave it out") from error


def _frame(dataset: Dataset, frame: int | None, voi: bool) -> np.ndarray:
    from pydicom.pixels import apply_color_lut, pixel_array

    stored = pixel_array(dataset, index=frame)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
        return np.moveaxis(stored, -1, 0).astype(np.float32) / np.iinfo(stored.dtype).max
    if stored.ndim == 3:
        return np.moveaxis(stored, -1, 0).astype(np.float32) / (2 ** int(dataset.BitsStored) - 1)
    if stored.ndim != 2:
        raise ValueError(f"{stored.ndim} axes in one frame")
    level = _Levels(dataset, frame)
    values = level.windowed(stored) if voi else level.rescaled(stored)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = 1 - values if voi else level.turned_over(values)
    return values.astype(np.float32)


class _Levels:
    """The look-up tables of a frame: its own in an enhanced file, else the file's."""

    def __init__(self, dataset: Dataset, frame: int | None) -> None:
        self._transform = _functional(dataset, frame, "PixelValueTransformationSequence") or dataset
        self._window = _functional(dataset, frame, "FrameVOILUTSequence") or dataset
        bits, signed = int(dataset.BitsStored), int(dataset.PixelRepresentation)
        low = -(2 ** (bits - 1)) if signed else 0
        self._ends = np.array([low, low + 2**bits - 1])

    def rescaled(self, stored: np.ndarray) -> np.ndarray:
        from pydicom.pixels import apply_modality_lut

        return np.asarray(apply_modality_lut(stored, self._transform), np.float64)

    def turned_over(self, values: np.ndarray) -> np.ndarray:
        """Large for small: mirrored in the range that the file's bits can hold."""
        turned: np.ndarray = self.rescaled(self._ends).sum() - values
        return turned

    def windowed(self, stored: np.ndarray) -> np.ndarray:
        """The file's first window or table (DICOM PS3.3, C.11.2), as a fraction; raises ValueError if it has none."""
        from pydicom import Dataset
        from pydicom.pixels import apply_voi, apply_windowing

        values = self.rescaled(stored)
        if "VOILUTSequence" in self._window:
            highest = 2 ** int(self._window.VOILUTSequence[0].LUTDescriptor[2]) - 1
            return np.asarray(apply_voi(np.rint(values).astype(np.int64), self._window), np.float64) / highest
        if self._window.get("WindowWidth") is None or self._window.get("WindowCenter") is None:
            raise ValueError("it has no window of its own; drop voi=file")
        # The result's range is that of these bits, whatever the file's own bits and rescaling are.
        window = Dataset()
        window.PhotometricInterpretation, window.BitsStored, window.PixelRepresentation = "MONOCHROME2", 16, 0
        window.WindowCenter, window.WindowWidth = self._window.WindowCenter, self._window.WindowWidth
        window.VOILUTFunction = self._window.get("VOILUTFunction") or "LINEAR"
        return np.asarray(apply_windowing(values, window), np.float64) / (2**16 - 1)


def _functional(dataset: Dataset, frame: int | None, name: str) -> Any:
    """The item of a functional group of this frame (None: the file's only one), or None."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    shared = dataset.get("SharedFunctionalGroupsSequence")
    for groups in (per_frame[frame or 0] if per_frame else None, shared[0] if shared else None):
        if groups is not None and groups.get(name):
            return groups.get(name)[0]
    return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
