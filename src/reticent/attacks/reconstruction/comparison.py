"""Scores of reconstructions beside those of a guess that saw nothing, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest
from torch import Tensor

from reticent.attacks.reconstruction.scores import Metric, cost, score
from reticent.records import Interval

RESAMPLES = 2000
_SEED = 1983


@dataclass(frozen=True)
class Compared:
    """Mean over images of a metric, for the attack and for the guess, and by how much the attack is better."""

    metric: Metric
    value: float
    interval: Interval
    baseline: float
    gain: float
    """Positive where the attack is better, also for a metric of which less is better."""
    gain_interval: Interval

    @property
    def beats_baseline(self) -> bool:
        """Whether the interval of the gain lies above 0."""
        return self.gain_interval.lower > 0


def compared(
    metric: Metric,
    targets: Tensor,
    reconstructions: Tensor,
    guesses: Tensor,
    *,
    data_range: float = 1.0,
    confidence: float = 0.95,
) -> Compared:
    """Compare reconstructions (n, C, ...) of targets, row by row, with guesses (n or 1, C, ...) of the same.

    Intervals are percentile bootstraps over the images, one of each patient, 2000 resamples; the gain's is paired.
    """
    own = score(metric, targets, reconstructions, data_range)
    other = score(metric, targets, guesses.expand_as(targets), data_range)
    gain = cost(metric, other) - cost(metric, own)
    return Compared(
        metric,
        float(own.mean()),
        bootstrap(own, confidence),
        float(other.mean()),
        float(gain.mean()),
        bootstrap(gain, confidence),
    )


def bootstrap(values: Tensor, confidence: float = 0.95) -> Interval:
    """Percentile bootstrap of the mean (Efron and Tibshirani 1993, section 13.3)."""
    numbers = values.double().numpy()
    rng = np.random.default_rng(_SEED)  # fixed: the same scores always have the same interval
    means = numbers[rng.integers(len(numbers), size=(RESAMPLES, len(numbers)))].mean(1)
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(means, [tail, 1 - tail])
    return Interval(lower=float(lower), upper=float(upper), confidence=confidence)


def share(hits: Tensor, confidence: float = 0.95) -> tuple[float, Interval]:
    """Share of hits, BoolTensor (n,), with its two-sided interval of Clopper and Pearson (1934)."""
    count, trials = int(hits.sum()), len(hits)
    found = binomtest(count, trials).proportion_ci(confidence, method="exact")
    return count / trials, Interval(lower=float(found.low), upper=float(found.high), confidence=confidence)
