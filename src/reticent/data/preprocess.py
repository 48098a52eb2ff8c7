"""Brings a record to the size, channels and intensity that a model takes, using no pixels but its own."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from reticent.data.cohort import Record
from reticent.data.detection.geometry import Placement, clip_boxes
from reticent.data.markers import PADDING, VECTOR_INPUTS, Scale
from reticent.errors import InputError

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True)
class Preprocessing:
    """What is done to every record, in the order: channels, size, window, intensity.

    `size` is the spatial shape in pixels (None: as stored, padded where a side is below `least`). With `spacing`, the
    size of a pixel or voxel in mm along every axis, images are resampled to that and cut, or padded with each channel's
    least value (masks: 0), around their centre to `size`; without it they are resized to `size`, or with `keep_aspect`
    by one factor for all axes so that they just fit in, and padded. `window` (centre, width) maps the values
    centre - width / 2 to centre + width / 2 to [0, 1] and clips others. All are declared, not taken from the cohort.

    `grey` turns three channels into one by luminance; `channels` asks for a number of channels, to which colour is
    reduced by luminance and grey repeated.

    "standardise" gives every channel of a record zero mean and unit standard deviation (zeros if it is constant).
    "scale" keeps the grey values of 8-bit images comparable: x in [0, 1] becomes (x - 0.5) / 0.25; a record with other
    values is first mapped to [0, 1] by its own minimum and maximum. "auto" scales records within [0, 1] and
    standardises others, whose unit is unknown. "none" leaves them as they are: surfaces, which their reader prepares.

    With `mark_padding` a record gets one more vector, "padding" (D + H + W for three axes): 1 where a slice along an
    axis lies wholly in what was padded, else 0. Padding comes last then, with each channel's least normalised value: a
    record is standardised by its own pixels alone, so that what is left of it does not depend on `size`.

    Vectors of a record are no images: "markers" is centred and scaled by `marker_scales`, component by component (none:
    not at all), with 0 where a value is missing (NaN); others stay as they are.
    """

    size: tuple[int, ...] | None = None
    normalise: Literal["auto", "standardise", "scale", "none"] = "auto"
    channels: int | None = None
    grey: bool = False
    spacing: tuple[float, ...] | None = None
    window: tuple[float, float] | None = None
    least: tuple[int, ...] | None = None
    keep_aspect: bool = False
    marker_scales: tuple[Scale, ...] = ()
    mark_padding: bool = False

    def apply(self, record: Record) -> Record:
        """The preprocessed record; masks take the nearest label, boxes move with the image and are clipped to it.

        Raises InputError if size, spacing or channels do not fit, or the record does not tell its spacing.
        """
        inputs = {
            name: self._vector(name, array) if name in VECTOR_INPUTS else self._input(record, array)
            for name, array in record.inputs.items()
        }
        images = [array for name, array in record.inputs.items() if name not in VECTOR_INPUTS]
        if self.mark_padding and images:
            inputs[PADDING] = self._padding(record, images[0].shape[1:])
        targets = dict(record.targets)
        if "mask" in targets:
            mask = targets["mask"]
            between = self._resampled(record.subject, mask.shape, record.spacing)
            targets["mask"] = cut_or_pad(resize_mask(mask, between)[None], self._final(between), 0)[0]
        if self.size is not None and "boxes" in targets:
            shape = next(iter(record.inputs.values())).shape[1:]
            moved = self.placement(shape, record.spacing).forward(targets["boxes"]).astype(np.float32)
            size = (self.size[0], self.size[1])
            targets["boxes"], targets["objects"] = clip_boxes(moved, targets["objects"], size)
        return replace(record, inputs=inputs, targets=targets)

    def placement(self, shape: tuple[int, ...], spacing: tuple[float, ...] | None) -> Placement:
        """Where the pixels of an image of this shape go."""
        assert self.size is not None
        between = self._resampled("the image", shape, spacing)
        scale = (between[0] / shape[0], between[1] / shape[1])
        return Placement(scale, (float(-_beyond(between[0], self.size[0])), float(-_beyond(between[1], self.size[1]))))

    def uncut(self, values: np.ndarray, shape: tuple[int, ...], spacing: tuple[float, ...] | None) -> np.ndarray:
        """Values (C, ...) on the grid of a preprocessed record, without what it was padded with and with 0 where it was
        cut: on a grid with the field of view of the record, which has this shape and spacing.
        """
        if self.spacing is None and self.size is not None and not self.keep_aspect:
            return values
        return cut_or_pad(values, self._resampled("the image", shape, spacing), 0)

    def _resampled(self, subject: str, shape: tuple[int, ...], spacing: tuple[float, ...] | None) -> tuple[int, ...]:
        """The shape between resampling and cutting: whole pixels nearest to the declared spacing."""
        if self.spacing is None and self.size is not None and self.keep_aspect:
            factor = min(new / old for new, old in zip(self.size, shape, strict=True))
            return tuple(max(1, round(side * factor)) for side in shape)
        if self.spacing is None:
            return self.size or shape
        if spacing is None:
            raise InputError(f"{subject}: the file tells no pixel or voxel size; leave out --spacing")
        wanted = self.spacing * len(shape) if len(self.spacing) == 1 else self.spacing
        if len(wanted) != len(shape):
            raise InputError(
                f"--spacing has {len(wanted)} numbers, but the images have {len(shape)} dimensions; give one number, "
                "or one for each"
            )
        return tuple(max(1, round(n * s / w)) for n, s, w in zip(shape, spacing, wanted, strict=True))

    def _vector(self, name: str, array: np.ndarray) -> np.ndarray:
        if name != "markers":
            return array
        centre, scale = np.array(self.marker_scales or [(0, 1)], np.float32).T
        return np.nan_to_num((array - centre) / scale, nan=0.0)

    def _padding(self, record: Record, shape: tuple[int, ...]) -> np.ndarray:
        between = self._resampled(record.subject, shape, record.spacing)
        sides = zip(between, self._final(between), strict=True)
        padded = [cut_or_pad(np.zeros((1, side), np.float32), (final,), 1) for side, final in sides]
        return np.concatenate(padded, 1)[0]

    def _final(self, between: tuple[int, ...]) -> tuple[int, ...]:
        """The shape after cutting and padding."""
        if self.size is not None:
            return self.size
        return tuple(map(max, between, self.least or between))

    def _input(self, record: Record, array: np.ndarray) -> np.ndarray:
        array = to_channels(array, 1 if self.grey else self.channels, record.subject)
        for option, sides in (("--image-size", self.size), ("--patch-size", self.least)):
            if sides is not None and len(sides) != array.ndim - 1:
                raise InputError(
                    f"{option} {' '.join(map(str, sides))} has {len(sides)} numbers, but the images have "
                    f"{array.ndim - 1} dimensions ({' x '.join(map(str, array.shape[1:]))}); give one number for each"
                )
        between = self._resampled(record.subject, array.shape[1:], record.spacing)
        array, final = resize_image(array, between), self._final(between)
        if not self.mark_padding:
            return self._intensities(_filled(array, final))
        kept = tuple(map(min, between, final))
        return _filled(self._intensities(_filled(array, kept)), final)

    def _intensities(self, array: np.ndarray) -> np.ndarray:
        if self.window is not None:
            centre, width = self.window
            array = ((array - (centre - width / 2)) / width).clip(0, 1).astype(np.float32)
        if self.normalise == "none":
            return array
        scaled = self.normalise == "scale" or (self.normalise == "auto" and _is_fraction(array))
        return _scale(array) if scaled else _standardise(array)


def _filled(array: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Cut, or padded with each channel's least value."""
    return cut_or_pad(array, size, array.min(tuple(range(1, array.ndim)), keepdims=True))


def resize_image(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Resize (C, ...) to (C, *size): by area where no axis grows, else linearly."""
    if image.shape[1:] == size:
        return image
    if all(new <= old for new, old in zip(size, image.shape[1:], strict=True)):
        return _resize(image, size, "area")
    return _resize(image, size, "bilinear" if len(size) == 2 else "trilinear")


def cut_or_pad(array: np.ndarray, size: tuple[int, ...], padding: np.ndarray | int) -> np.ndarray:
    """(C, ...) cut, or padded with a value or those of its channels (C, 1, ...), around its centre to (C, *size).

    Either undoes the other.
    """
    beyond = [_beyond(side, wanted) for side, wanted in zip(array.shape[1:], size, strict=True)]
    kept = tuple(slice(max(0, b), max(0, b) + wanted) for b, wanted in zip(beyond, size, strict=True))
    cut = array[(slice(None), *kept)]
    inside = tuple(slice(max(0, -b), max(0, -b) + side) for b, side in zip(beyond, cut.shape[1:], strict=True))
    padded = np.full((len(array), *size), padding, array.dtype)
    padded[(slice(None), *inside)] = cut
    return padded


def _beyond(side: int, wanted: int) -> int:
    """Pixels cut off in front, or minus those padded."""
    return int((side - wanted) / 2)


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


def to_channels(array: np.ndarray, channels: int | None, subject: str) -> np.ndarray:
    """Colour to grey by luminance, or grey repeated (None: as it is); raises InputError naming `subject` if neither."""
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
