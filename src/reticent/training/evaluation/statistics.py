"""Statistics of weighted records, evaluated for many weightings at once.

A statistic maps weights, shape (n_records, n_weightings), to one value per weighting; NaN where it is undefined.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Statistic = Callable[[Floats], Floats]


def mean(values: Floats) -> Statistic:
    """Weighted mean of the values, shape (n_records,), that are not NaN."""
    defined = ~np.isnan(values)
    numerator, denominator = np.where(defined, values, 0.0), defined.astype(float)
    return lambda weights: _ratio(numerator @ weights, denominator @ weights)


def share(of: Flags, among: Flags) -> Statistic:
    """Weighted share of records with `of` among those with `among`; sensitivity is share(decided, positive)."""
    return mean(np.where(among, of.astype(float), np.nan))


def auroc(scores: Floats, positive: Flags) -> Statistic:
    r"""Area under the ROC curve, :math:`P(s_+ > s_-) + \tfrac12 P(s_+ = s_-)` (Hanley & McNeil 1982), ties included."""
    at_negative, at_positive = np.flatnonzero(~positive), np.flatnonzero(positive)
    at_negative = at_negative[np.argsort(scores[at_negative])]
    at_positive = at_positive[np.argsort(scores[at_positive])]
    below = np.searchsorted(scores[at_negative], scores[at_positive], side="left")
    not_above = np.searchsorted(scores[at_negative], scores[at_positive], side="right")

    def statistic(weights: Floats) -> Floats:
        negatives = np.zeros((len(at_negative) + 1, weights.shape[1]))
        np.cumsum(weights[at_negative], axis=0, out=negatives[1:])
        positives = weights[at_positive]
        beaten = np.einsum("nb,nb->b", positives, negatives[below] + negatives[not_above]) / 2
        return _ratio(beaten, positives.sum(axis=0) * negatives[-1])

    return statistic


def matthews(decided: Flags, truth: Flags) -> Statistic:
    r"""Correlation of decision and truth, both one-hot (n_records, k); 0 is chance (Matthews 1975, Gorodkin 2004).

    With s records, c of them right, and of class k t_k in truth and p_k decided,
    :math:`(cs - \sum_k p_k t_k) / \sqrt{(s^2 - \sum_k p_k^2)(s^2 - \sum_k t_k^2)}`; undefined with one class only.
    """
    right, decisions, truths = (decided & truth).any(1).astype(float), decided.T.astype(float), truth.T.astype(float)

    def statistic(weights: Floats) -> Floats:
        s, c, p, t = weights.sum(axis=0), right @ weights, decisions @ weights, truths @ weights
        spread = (s**2 - (p**2).sum(axis=0)) * (s**2 - (t**2).sum(axis=0))
        return _ratio(c * s - (p * t).sum(axis=0), np.sqrt(spread.clip(min=0)))

    return statistic


def macro(statistics: Sequence[Statistic]) -> Statistic:
    """Unweighted mean of the statistics that are defined."""

    def statistic(weights: Floats) -> Floats:
        values = np.stack([single(weights) for single in statistics])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # all undefined: NaN is the answer
            return np.asarray(np.nanmean(values, axis=0))

    return statistic


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)
