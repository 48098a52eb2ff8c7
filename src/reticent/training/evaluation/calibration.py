"""Reliability of predicted probabilities in equal-width bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reticent.training.evaluation.statistics import Flags, Floats

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Bins that hold at least one prediction: mean probability, observed frequency, share of the predictions."""

    probability: Floats
    frequency: Floats
    share: Floats

    @property
    def error(self) -> float:
        r"""Expected calibration error :math:`\sum_b \frac{n_b}{n} |\mathrm{acc}_b - \mathrm{conf}_b|`.

        Source: Guo, Pleiss, Sun & Weinberger 2017, equation 3.
        """
        return float(np.sum(self.share * np.abs(self.frequency - self.probability)))


def reliability(probabilities: Floats, happened: Flags) -> Reliability:
    """Predicted probabilities, shape (n,), against what happened, in 15 bins of width 1/15, closed on the right."""
    bins = np.digitize(probabilities, np.linspace(0, 1, BINS + 1)[1:-1], right=True)
    counts = np.bincount(bins, minlength=BINS)
    kept = counts > 0
    sums = np.bincount(bins, weights=probabilities, minlength=BINS)[kept]
    hits = np.bincount(bins, weights=happened, minlength=BINS)[kept]
    return Reliability(sums / counts[kept], hits / counts[kept], counts[kept] / len(probabilities))
