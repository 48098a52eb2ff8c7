"""The Gaussian mechanism that covers a privacy profile."""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri_exp

from reticent.accounting.gaussian import log_delta
from reticent.accounting.loss import FloatArray

TOLERANCE = 1e-7


def covering_mu(epsilons: FloatArray, deltas: FloatArray) -> float:
    """Smallest mu, rounded up by 1e-7, whose delta_mu lies above a profile at all epsilons where it is positive.

    The profile is given by `deltas` at increasing `epsilons` and linear in e^epsilon between them, which any privacy
    profile lies below. delta_mu is convex in e^epsilon with the slope -Phi(-mu/2 - epsilon/mu): it comes closest to a
    straight line where it is parallel to it, or at the line's ends.
    """
    cells = deltas[:-1] > 0
    if not cells.any():
        return 0.0
    left, right = epsilons[:-1][cells], epsilons[1:][cells]
    start, drop = deltas[:-1][cells], (deltas[:-1] - deltas[1:])[cells]
    width = np.minimum(right - left, 600.0)
    with np.errstate(divide="ignore"):
        flatness = ndtri_exp(np.minimum(np.log(drop) - left - np.log(np.expm1(width)), -1e-300))

    cell: tuple[FloatArray, ...] = (left, right, start, drop, width, flatness)
    high = 1.0
    while (open_ := _uncovered(high, *cell)).any():
        cell, high = tuple(part[open_] for part in cell), high * 2
    low = high / 2
    while high > 1e-9 and not (open_ := _uncovered(low, *cell)).any():
        low, high = low / 2, low
    while high - low > TOLERANCE * high:
        cell = tuple(part[open_] for part in cell) if len(open_) == len(cell[0]) else cell  # others hold from here on
        middle = (low + high) / 2
        open_ = _uncovered(middle, *cell)
        if open_.any():
            low = middle
        else:
            high, open_ = middle, np.ones_like(open_)
    return high


def _uncovered(
    mu: float,
    left: FloatArray,
    right: FloatArray,
    start: FloatArray,
    drop: FloatArray,
    width: FloatArray,
    flatness: FloatArray,
) -> npt.NDArray[np.bool_]:
    """Cells in which the straight line rises above delta_mu; none of them does so for a larger mu but not for this."""
    with np.errstate(invalid="ignore"):
        closest = np.clip(np.nan_to_num(-mu * (flatness + mu / 2), nan=math.inf, posinf=1e308), left, right)
    share = np.expm1(np.minimum(closest - left, 600.0)) / np.expm1(width)
    line = np.maximum(start - drop * np.minimum(share, 1.0), 1e-320)
    return np.asarray(log_delta(mu, closest) < np.log(line))
