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
    """Members found at the threshold that at most `alarms` of the `others` exceed, as many as `rate` allows."""

    rate: float
    found: int
    members: int
    alarms: int
    others: int

    @property
    def value(self) -> float:
        """True-positive rate."""
        return self.found / self.members

    def interval(self, confidence: float) -> Interval:
        """Clopper and Pearson's interval of the true-positive rate, at this threshold."""
        tail, missed = (1 - confidence) / 2, self.members - self.found
        lower = float(beta.ppf(tail, self.found, missed + 1)) if self.found else 0.0
        upper = float(beta.isf(tail, self.found + 1, missed)) if missed else 1.0
        return Interval(lower=lower, upper=upper, confidence=confidence)

    def p_value(self, power: Callable[[Array], Array]) -> float:
        """Most that the chance of so many found can be if no attack has a larger true-positive rate than `power`.

        The false-positive rate at the threshold, the (alarms + 1)-th largest of the others' scores, is distributed as
        Beta(alarms + 1, others - alarms), or smaller where scores tie; the binomial tail is averaged over it, rounded
        up.
        """
        cuts = np.concatenate([np.linspace(0.05, 0.95, 19), 1 - 10.0 ** np.arange(-1.5, -7, -0.5)])
        rates = beta.ppf(cuts, self.alarms + 1, self.others - self.alarms)
        tails = np.append(binom.sf(self.found - 1, self.members, np.clip(power(rates), 0, 1)), 1.0)
        return float(np.diff(np.concatenate([[0.0], cuts, [1.0]])) @ tails)


def found_at(members: ArrayLike, others: ArrayLike, rate: float) -> Found:
    """Members whose score exceeds all but a share `rate` of the others'.

    Raises:
        InputError: either side is empty, or a score is NaN.
    """
    inside, outside = _both(members, others)
    alarms = min(int(np.floor(rate * len(outside) + 1e-9)), len(outside) - 1)
    threshold = np.sort(outside)[::-1][alarms]
    return Found(rate, int((inside > threshold).sum()), len(inside), alarms, len(outside))


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
