"""Slices as a stack: their order along the normal, and whether they are an even stack without gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reticent.errors import InputError

TOLERANCE = 0.05  # of the spacing
_MOST_TILT = 1.0  # degrees
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class UnevenStackError(InputError):
    """These slices are no stack of even spacing; the message says what is wrong."""


@dataclass(frozen=True)
class Stack:
    """`order` sorts the slices along the normal; `affine` (4, 4) maps (column, row, slice) to RAS+ mm."""

    order: tuple[int, ...]
    affine: np.ndarray


def stack(positions: Sequence[Sequence[float]], orientation: Sequence[float], spacing: Sequence[float]) -> Stack:
    """Order slices by their position projected on the normal (DICOM PS3.3, C.7.6.2.1.1), and check their spacing.

    `positions` (n, 3) are in mm, `orientation` holds the direction cosines of a row and of a column, `spacing` the
    distance of rows and of columns in mm. Instance numbers play no part.

    Raises:
        UnevenStackError: fewer than two slices, two at the same place, a gap of whole slices, other uneven spacing, a
            stack whose slices are shifted against each other (as by a tilted gantry), directions that are no axes, or
            numbers that are not finite.
    """
    places = np.asarray(positions, float)
    if not np.isfinite(places).all() or not np.isfinite([*orientation, *spacing]).all():
        raise UnevenStackError("positions, directions or spacings that are no numbers")
    row, column = np.reshape(np.asarray(orientation, float), (2, 3))
    normal = np.cross(row, column)
    if not np.isclose([row @ row, column @ column], 1, atol=1e-2).all() or abs(row @ column) > 1e-2:
        raise UnevenStackError("the directions of rows and columns are no right angle of unit vectors")
    if min(spacing) <= 0:
        raise UnevenStackError(f"the pixel spacing is {spacing[0]:g} x {spacing[1]:g} mm")
    if len(places) < 2:
        raise UnevenStackError("one slice only; a volume needs two")
    heights = places @ normal
    order = np.argsort(heights, kind="stable")
    _check_even(heights[order])
    step = (places[order[-1]] - places[order[0]]) / (len(places) - 1)
    _check_straight(places[order], step, normal, min(spacing))
    affine = np.eye(4)
    affine[:3, :3] = np.stack([row * spacing[1], column * spacing[0], step], 1)
    affine[:3, 3] = places[order[0]]
    return Stack(tuple(int(i) for i in order), _TO_RAS @ affine)


def _check_even(heights: np.ndarray) -> None:
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    same = int((gaps <= max(1e-3, TOLERANCE * usual)).sum())
    if same:
        raise UnevenStackError(f"duplicate slices: {same} of {len(heights)} lie where another one does")
    wide = np.abs(gaps - usual) > TOLERANCE * usual
    multiples = gaps[wide] / usual
    missing = np.rint(multiples) - 1
    if wide.any() and (missing >= 1).all() and (np.abs(multiples - missing - 1) <= TOLERANCE * (missing + 1)).all():
        where = heights[:-1][wide][0]
        raise UnevenStackError(
            f"missing slices: {int(missing.sum())}, the first behind {where:.1f} mm (spacing {usual:.3g} mm)"
        )
    drift = np.abs(heights - np.linspace(heights[0], heights[-1], len(heights))).max()
    if wide.any() or drift > usual / 2:
        raise UnevenStackError(f"non-uniform spacing: {gaps.min():.3g} to {gaps.max():.3g} mm between slices")


def _check_straight(places: np.ndarray, step: np.ndarray, normal: np.ndarray, pixel: float) -> None:
    along = step @ normal
    tilt = np.degrees(np.arccos(min(1.0, along / np.linalg.norm(step))))
    if tilt > _MOST_TILT:
        raise UnevenStackError(f"sheared stack: tilted by {tilt:.1f} degrees (as by a gantry)")
    beside = places - places[0] - np.outer((places - places[0]) @ normal / along, step)
    if np.abs(beside).max() > pixel / 2:
        raise UnevenStackError("the slices are shifted against each other")
