"""Brings a record to the size, channels and intensity that a model takes, using no pixels but its own."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from reticent.data.cohort import Record
from reticent.errors import InputError

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True)
class Preprocessing:
    """What is done to every record, in the order: channels, size, intensity.

    `size` is the spatial shape in pixels (None: as stored). `grey` turns three channels into one by luminance;
    `channels` asks for a number of channels, to which colour is reduced by luminance and grey repeated.

    "standardise" gives every channel of a record zero mean and unit standard deviation (zeros if it is constant).
    "scale" keeps the grey values of 8-bit images comparable: x in [0, 1] becomes (x - 0.5) / 0.25; a record with other
    values is first mapped to [0, 1] by its own minimum and maximum. "auto" scales records within [0, 1] and
    standardises others, whose unit is unknown.
    """

    size: tuple[int, ...] | None = None
    normalise: Literal["auto", "standardise", "scale"] = "auto"
    channels: int | None = None
    grey: bool = False

    def apply(self, record: Record) -> Record:
        """The preprocessed record; masks take the nearest label. Raises InputError if size or channels do not fit."""
        inputs = {name: self._input(record.subject, array) for name, array in record.inputs.items()}
        targets = dict(record.targets)
        if self.size is not None and "mask" in targets:
            targets["mask"] = resize_mask(targets["mask"], self.size)
        return replace(record, inputs=inputs, targets=targets)

    def _input(self, subject: str, array: np.ndarray) -> np.ndarray:
        array = _to_channels(array, 1 if self.grey else self.channels, subject)
        if self.size is not None:
            if len(self.size) != array.ndim - 1:
                raise InputError(
                    f"--image-size {' '.join(map(str, self.size))} has {len(self.size)} numbers, but the images have "
                    f"{array.ndim - 1} dimensions ({' x '.join(map(str, array.shape[1:]))}); give one number for each"
                )
            array = resize_image(array, self.size)
        scaled = self.normalise == "scale" or (self.normalise == "auto" and _is_fraction(array))
        return _scale(array) if scaled else _standardise(array)


def resize_image(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Resize (C, ...) to (C, *size): by area where no axis grows, else linearly."""
    if image.shape[1:] == size:
        return image
    if all(new <= old for new, old in zip(size, image.shape[1:], strict=True)):
        return _resize(image, size, "area")
    return _resize(image, size, "bilinear" if len(size) == 2 else "trilinear")


def resize_mask(mask: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Resize an integer mask to `size`, each pixel taking the label nearest to its centre."""
    if mask.shape == size:
        return mask
    resized: np.ndarray = _resize(mask[None].astype(np.float32), size, "nearest-exact")[0].astype(mask.dtype)
    return resized


def _resize(array: np.ndarray, size: tuple[int, ...], mode: str) -> np.ndarray:
    # Imported here: MONAI and torch take seconds, and opening a cohort does not need them.
    from monai.transforms import Resize

    return np.asarray(Resize(size, mode=mode)(array), np.float32)


def _to_channels(array: np.ndarray, channels: int | None, subject: str) -> np.ndarray:
    if channels is None or len(array) == channels:
        return array
    if channels == 1 and len(array) == 3:
        return np.tensordot(_LUMINANCE, array, 1)[None]
    if len(array) == 1:
        return np.repeat(array, channels, axis=0)
    raise InputError(f"{subject}: the image has {len(array)} channels where {channels} are expected; convert it")


def _standardise(array: np.ndarray) -> np.ndarray:
    axes = tuple(range(1, array.ndim))
    wide = array.astype(np.float64)
    constant = array.max(axes, keepdims=True) == array.min(axes, keepdims=True)
    deviation = np.where(constant, 1, wide.std(axes, keepdims=True))
    return np.where(constant, 0, (wide - wide.mean(axes, keepdims=True)) / deviation).astype(np.float32)


def _is_fraction(array: np.ndarray) -> bool:
    return bool(array.min() >= 0 and array.max() <= 1)


def _scale(array: np.ndarray) -> np.ndarray:
    if not _is_fraction(array):
        low, high = array.min(), array.max()
        array = (array - low) / (high - low) if high > low else np.full_like(array, 0.5)
    return ((array - 0.5) / 0.25).astype(np.float32)
