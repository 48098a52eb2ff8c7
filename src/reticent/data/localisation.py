"""Where in an image a structure lies, and the part around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from reticent.errors import InputError


@dataclass(frozen=True)
class Box:
    """Half-open ranges of voxels along the spatial axes."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def slices(self) -> tuple[slice, ...]:
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))


def localise(mask: np.ndarray, spacing: Sequence[float], margin: float = 10.0, share: float = 0.3) -> Box | None:
    """A cube (a square) around the largest connected part of a mask, as far as the image reaches; None if it is empty.

    The longest side of that part in mm, plus on either side `margin` mm or `share` of it, whichever is more, is the
    side of the cube, which is moved, not cut, where it would leave the image, unless the image is smaller.

    Args:
        mask: (H, W) or (D, H, W), 0 is background; parts are connected by faces.
        spacing: of its axes, in mm.

    Raises:
        InputError: the margin or the share is negative or not finite.
    """
    if not (0 <= margin < math.inf and 0 <= share < math.inf):
        raise InputError(f"a margin of {margin:g} mm and a share of {share:g}: give numbers of 0 or more")
    parts, count = ndimage.label(mask != 0)
    if not count:
        return None
    largest = 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    found = ndimage.find_objects(parts)[largest - 1]
    sides = [(own.stop - own.start) * s for own, s in zip(found, spacing, strict=True)]
    wanted = max(sides) + 2 * max(margin, share * max(sides))
    ranges = [
        _around(own, math.ceil(wanted / s - 1e-9), length)
        for own, s, length in zip(found, spacing, mask.shape, strict=True)
    ]
    return Box(tuple(a for a, _ in ranges), tuple(b for _, b in ranges))


def crop(array: np.ndarray, box: Box) -> np.ndarray:
    """(..., *spatial) cut to the box."""
    index: Any = (..., *box.slices)
    part: np.ndarray = array[index]
    return part


def paste(part: np.ndarray, box: Box, shape: Sequence[int], fill: float = 0) -> np.ndarray:
    """What `crop` cut out, on the grid of `shape` again, with `fill` around it."""
    lead = part.shape[: part.ndim - len(shape)]
    whole = np.full((*lead, *shape), fill, part.dtype)
    index: Any = (..., *box.slices)
    whole[index] = part
    return whole


def _around(found: slice, length: int, available: int) -> tuple[int, int]:
    """A range of `length`, or all that is available, with the found one in its middle as far as possible."""
    length = min(length, available)
    start = (found.start + found.stop - length) // 2
    start = min(max(start, 0), available - length)
    return start, start + length
