"""How well scores tell members from others: AUC, and members found at a low rate of false alarms, with intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import beta, binom, norm, rankdata

from reticent.accounting import PrivacyProfile
from reticent.attacks.scores import Array, require_scores
from reticent.errors import InputError
from reticent.records import Interval


@dataclass(frozen=True)
class Found:
    """Members whose score exceeds all but a share `rate` of the others' scores."""

    rate: float
    members: Array
    others: Array
    """Scores, the largest first."""

    @property
    def alarms(self) -> int:
        """As many of the others as `rate` allows."""
        return min(int(np.floor(self.rate * len(self.others) + 1e-9)), len(self.others) - 1)

    @property
    def value(self) -> float:
        """True-positive rate."""
        return self._above(self.alarms) / len(self.members)

    def interval(self, confidence: float) -> Interval:
        """Of the true-positive rate at a false-positive rate of exactly `rate`, which no threshold is known to have.

        A threshold, one of the others' scores, has a false-positive rate that is surely below (above) `rate`, by the
        distribution of order statistics; at it, Clopper and Pearson's lower (upper) limit. Half of the error goes to
        either step. With few others the interval is wide.
        """
        tail, count, members = (1 - confidence) / 4, len(self.others), len(self.members)
        below = np.asarray(beta.cdf(self.rate, np.arange(1, count + 1), np.arange(count, 0, -1)))  # of each threshold
        low, high = int(np.count_nonzero(below >= 1 - tail)) - 1, int(np.count_nonzero(below >= tail))
        found, surely = self._above(low) if low >= 0 else 0, self._above(high) if high < count else members
        lower = float(beta.ppf(tail, found, members - found + 1)) if found else 0.0
        upper = float(beta.isf(tail, surely + 1, members - surely)) if surely < members else 1.0
        return Interval(lower=lower, upper=upper, confidence=confidence)

    def p_value(self, power: Callable[[Array], Array]) -> float:
        """Most that the chance of so many found can be if no attack has a larger true-positive rate than `power`.

        The false-positive rate at the threshold, the (alarms + 1)-th largest of the others' scores, is distributed as
        Beta(alarms + 1, others - alarms), or smaller where scores tie; the binomial tail is averaged over it, rounded
        up.
        """
        cuts = np.concatenate([np.linspace(0.05, 0.95, 19), 1 - 10.0 ** np.arange(-1.5, -7, -0.5)])
        rates = beta.ppf(cuts, self.alarms + 1, len(self.others) - self.alarms)
        tails = binom.sf(self._above(self.alarms) - 1, len(self.members), np.clip(power(rates), 0, 1))
        return float(np.diff(np.concatenate([[0.0], cuts, [1.0]])) @ np.append(tails, 1.0))

    def _above(self, rank: int) -> int:
        """Members above the score of the other of this rank, from 0."""
        return int((self.members > self.others[rank]).sum())


def found_at(members: ArrayLike, others: ArrayLike, rate: float) -> Found:
    """What an attack finds at a false-positive rate.

    Raises:
        InputError: either side is empty, or a score is NaN.
    """
    inside, outside = _both(members, others)
    return Found(rate, inside, np.sort(outside)[::-1])


def auc(members: ArrayLike, others: ArrayLike, confidence: float = 0.95) -> tuple[float, Interval, float]:
    """Area under the ROC curve, its interval and standard error (DeLong, DeLong and Clarke-Pearson, 1988).

    Raises:
        InputError: either side is empty, or a score is NaN.
    """
    inside, outside = _both(members, others)
    ranks = rankdata(np.concatenate([inside, outside]))
    above = (ranks[: len(inside)] - rankdata(inside)) / len(outside)
    below = 1 - (ranks[len(inside) :] - rankdata(outside)) / len(inside)
    value = float(above.mean())
    error = float(np.sqrt(_variance_of_mean(above) + _variance_of_mean(below)))
    half = float(norm.isf((1 - confidence) / 2)) * error
    interval = Interval(lower=max(0.0, value - half), upper=min(1.0, value + half), confidence=confidence)
    return value, interval, error


def largest_auc(profile: PrivacyProfile) -> float:
    """Upper bound on any attack's AUC: the area under the largest true-positive rates, summed from above."""
    rates = np.concatenate([10.0 ** np.linspace(-6, -2, 33)[:-1], np.linspace(0.01, 1, 100)])
    power = np.array([min(1.0, found.upper) for found in profile.power(rates.tolist())])
    return float(np.diff(np.concatenate([[0.0], rates])) @ power)


def power_of(profile: PrivacyProfile) -> Callable[[Array], Array]:
    """Certified upper bounds on the true-positive rate at false-positive rates."""
    return lambda rates: np.array([found.upper for found in profile.power(rates.tolist())])


def _both(members: ArrayLike, others: ArrayLike) -> tuple[Array, Array]:
    inside, outside = require_scores(members), require_scores(others)
    if not len(inside) or not len(outside):
        raise InputError(f"{len(inside)} members and {len(outside)} others; an attack is measured on both")
    return inside, outside


def _variance_of_mean(values: Array) -> float:
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else 0.25
