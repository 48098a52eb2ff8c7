"""Whether batches were drawn as is accounted for: every patient on its own, by chance, at each of its turns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gamma

from reticent.errors import InputError


@dataclass(frozen=True)
class Spread:
    """Mean squared deviation of counts from their expectation, in units of their variance: 1 in expectation."""

    value: float
    interval: tuple[float, float]
    p_value: float
    """Two-sided; approximate, by the moments."""


@dataclass(frozen=True)
class SamplingLaw:
    """Spread of the batches' sizes, and of how often each patient took part."""

    sizes: Spread
    participations: Spread

    @property
    def oddest(self) -> Spread:
        """The one that is less likely under Poisson sampling."""
        return min(self.sizes, self.participations, key=lambda spread: spread.p_value)

    @property
    def p_value(self) -> float:
        """Of Poisson sampling, corrected for two tests."""
        return min(1.0, 2 * self.oddest.p_value)


def sampling_law(
    taken: NDArray[np.bool_],
    rate: float,
    group_of: NDArray[np.int64] | None = None,
    step_of: NDArray[np.int64] | None = None,
    confidence: float = 0.95,
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
        return SamplingLaw(_NEVER, _NEVER)
    if rate >= 1:
        return SamplingLaw(_CERTAIN, _CERTAIN)
    sizes, participations = (_spread(taken.sum(axis), turn.sum(axis), rate, confidence) for axis in (1, 0))
    return SamplingLaw(sizes, participations)


_NEVER, _CERTAIN = Spread(0.0, (0.0, 0.0), 0.0), Spread(1.0, (1.0, 1.0), 1.0)


def _spread(counts: NDArray[np.int64], trials: NDArray[np.int64], rate: float, confidence: float) -> Spread:
    """Of counts that are Bin(trials, rate), by the gamma distribution with the moments of their squared deviations."""
    counts, trials = counts[trials > 0], trials[trials > 0]
    variance = trials * rate * (1 - rate)
    squares = float(((counts - trials * rate) ** 2 / variance).sum())
    mean, spread = len(counts), float((2 + (1 - 6 * rate * (1 - rate)) / variance).sum())
    law = gamma(mean**2 / spread, scale=spread / mean)
    low, high = (squares / law.isf([(1 - confidence) / 2, (1 + confidence) / 2])).tolist()
    p_value = min(1.0, 2 * min(float(law.cdf(squares)), float(law.sf(squares))))
    return Spread(squares / mean, (low, high), p_value)
