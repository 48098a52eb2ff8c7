"""Privacy of releases that go on until the unit is selected, and of what then follows, whatever selects it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from reticent.accounting.atomic_loss import AtomicLoss
from reticent.accounting.loss import FloatArray
from reticent.accounting.profiles import PrivacyProfile
from reticent.errors import InputError

STEP = 0.01
MOST_CELLS = 200_000
BEYOND = 1e-15
"""delta at which the grid of epsilons ends; what lies beyond counts as certain to tell."""
ROUNDING = 1e-12


def stopping_loss(release: PrivacyProfile, following: Sequence[PrivacyProfile]) -> AtomicLoss:
    r"""A loss that dominates rounds of `release`, after one of which the unit is selected and `following[r]` begins.

    With V the hockey-stick divergence at epsilon x from round r on, over all rules that select on what was seen so far,

    .. math:: V_r(x) = E_{o \sim P}\bigl[\max\{\delta_r(x - L(o)),\; V_{r+1}(x - L(o))\}\bigr],
              \qquad V_{R+1}(x) = (1 - e^x)_+,

    for L the loss of the release and delta_r the profile of what follows selection in round r: the rule chooses for
    each outcome o, and the maximum of two profiles is a profile, which dominates either choice (Zhu, Dong and Wang,
    2022, Proposition 8 and Theorem 10). The larger of the mechanisms' epsilons is *not* a bound: a rule may choose by
    how much the rounds have already told.

    Both orders of each pair are covered by the worse of them. On a grid of epsilons, profiles are taken from above, and
    linear in e^epsilon between its points: "connect the dots" (Doroshenko et al., 2022).

    Raises:
        InputError: a profile has no finite epsilon at a delta of 1e-15, or would need too wide a grid.
    """
    span = release.epsilon(BEYOND).upper
    cells = max(1, math.ceil(span / STEP)) if math.isfinite(span) else 0
    step = span / cells if cells and span > 0 else STEP
    reach = max(profile.epsilon(BEYOND).upper for profile in following) + len(following) * span
    if not math.isfinite(reach) or reach / step > MOST_CELLS:
        raise InputError("a mechanism with an epsilon too large to be composed with a selection; add noise")
    grid = np.arange(math.ceil(reach / step) + 1, dtype=np.float64) * step
    told = np.array([release.delta(epsilon).upper for epsilon in grid[: cells + 1]])
    masses, infinite = _masses(told, step)
    value = np.zeros(len(grid))  # (1 - e^x)_+ from 0 on
    for profile in reversed(following):
        best = np.maximum(value, np.minimum.accumulate(profile.bounds(grid)[1]))
        extended = np.concatenate([_mirrored(best, step, cells), best, np.full(cells, best[-1])])
        value = np.convolve(extended, masses, "valid") * (1 + ROUNDING) + infinite
        value = np.minimum(value, 1.0)
    return _loss(value, step)


def _mirrored(values: FloatArray, step: float, count: int) -> FloatArray:
    """The `count` values to the left of 0 of a profile that is the same in both orders; increasing epsilons."""
    epsilons = np.arange(count, 0, -1, dtype=np.float64) * step
    own = np.append(values, np.full(max(0, count + 1 - len(values)), values[-1]))[count:0:-1]
    return np.asarray(-np.expm1(-epsilons) + np.exp(-epsilons) * own)


def _masses(values: FloatArray, step: float) -> tuple[FloatArray, float]:
    """Masses of P at the losses -n step, ..., n step, and at infinity, of the pair whose profile joins `values`.

    delta falls with slope Q(L > x) in e^x, so that the steps between slopes are masses of Q; slopes are raised where
    rounding left the values short of convex, which only raises the profile.
    """
    logs = np.arange(len(values), dtype=np.float64) * step
    widths = np.exp(logs[:-1]) * math.expm1(step)
    slopes = np.append(np.maximum.accumulate(((values[:-1] - values[1:]) / widths)[::-1])[::-1], 0.0)
    absent = np.maximum(slopes[:-1] - slopes[1:], 0.0)
    present = absent * np.exp(logs[1:])
    infinite = float(values[-1])
    middle = max(0.0, 1.0 - infinite - float(absent.sum() + present.sum()))
    return np.concatenate([absent[::-1], [middle], present]), infinite


def _loss(values: FloatArray, step: float) -> AtomicLoss:
    masses, infinite = _masses(values, step)
    reach = len(values) - 1
    kept = np.flatnonzero(masses > 0)
    losses, log_present = (kept - reach) * step, np.log(masses[kept])
    return AtomicLoss(tuple(losses.tolist()), tuple(log_present.tolist()), infinite, infinite, step)
