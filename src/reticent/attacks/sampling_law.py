"""Whether batches were drawn as is accounted for: every patient on its own, by chance, at each of its turns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gamma

from reticent.errors import InputError


@dataclass(frozen=True)
class SamplingLaw:
    """Spread of the batches' sizes, and of how often each patient took part; each is 1 in expectation if Poisson."""

    sizes: float
    participations: float
    p_value: float
    """Of Poisson sampling, either spread too small or too large, corrected for two tests; approximate (moments)."""

    @property
    def oddest(self) -> float:
        """The spread that is further from 1, as a ratio."""
        return max((self.sizes, self.participations), key=lambda spread: abs(np.log(max(spread, 1e-300))))


def sampling_law(
    taken: NDArray[np.bool_],
    rate: float,
    group_of: NDArray[np.int64] | None = None,
    step_of: NDArray[np.int64] | None = None,
) -> SamplingLaw:
    """Tests batches for Poisson sampling, or cyclic Poisson sampling in groups.

    Batches cut from a shuffled cohort have sizes that do not vary, and patients that take part equally often.

    Args:
        taken: who took part, (steps, patients).
        rate: each patient's chance at each of its turns.
        group_of: of each patient; step t is the turn of group t mod groups. All in group 0 by default.
        step_of: numbers of the steps, where some are missing.

    Raises:
        InputError: there are no steps or no patients.
    """
    if not taken.size:
        raise InputError("no batches to test: give at least one step and one patient")
    steps, patients = taken.shape
    groups = np.zeros(patients, np.int64) if group_of is None else group_of
    numbers = np.arange(steps) if step_of is None else step_of
    turn = numbers[:, None] % (groups.max() + 1) == groups
    if (taken & ~turn).any() or (rate >= 1 and not taken[turn].all()):
        return SamplingLaw(0.0, 0.0, 0.0)
    if rate >= 1:
        return SamplingLaw(1.0, 1.0, 1.0)
    sizes, often = (_spread(taken.sum(axis), turn.sum(axis), rate) for axis in (1, 0))
    return SamplingLaw(sizes[0], often[0], min(1.0, 2 * min(sizes[1], often[1])))


def _spread(counts: NDArray[np.int64], trials: NDArray[np.int64], rate: float) -> tuple[float, float]:
    """Mean squared deviation of Bin(trials, rate) in units of the variance, and its two-sided p-value.

    By the gamma distribution with the mean and variance that the sum of squares has.
    """
    counts, trials = counts[trials > 0], trials[trials > 0]
    variance = trials * rate * (1 - rate)
    squares = float(((counts - trials * rate) ** 2 / variance).sum())
    mean, spread = len(counts), float((2 + (1 - 6 * rate * (1 - rate)) / variance).sum())
    law = gamma(mean**2 / spread, scale=spread / mean)
    return squares / mean, min(1.0, 2 * min(float(law.cdf(squares)), float(law.sf(squares))))
