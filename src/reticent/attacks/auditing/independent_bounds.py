"""What independent games prove: lower bounds on epsilon and mu from an attack's rates of false alarms and misses.

Games are independent if each is played on a run of its own, or if canaries of one run cannot influence each other's
scores: orthogonal gradients under independent noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from scipy.stats import beta

from reticent.attacks.auditing.rejection import smallest_level
from reticent.attacks.scores import require_scores
from reticent.errors import InputError


@dataclass(frozen=True)
class Errors:
    """Of `outs` games without the canary the attack raised `false_alarms`, of `ins` with it it missed `misses`."""

    false_alarms: int
    outs: int
    misses: int
    ins: int

    def upper(self, level: float) -> tuple[float, float]:
        """Upper limits of both rates, together right but for a chance of `level` (Clopper and Pearson, 1934)."""
        return _upper(self.false_alarms, self.outs, level / 2), _upper(self.misses, self.ins, level / 2)


def errors_at(in_scores: ArrayLike, out_scores: ArrayLike, threshold: float) -> Errors:
    """The errors of saying "in" above a threshold that was fixed before the scores were seen."""
    inside, outside = require_scores(in_scores), require_scores(out_scores)
    return Errors(int((outside > threshold).sum()), len(outside), int((inside <= threshold).sum()), len(inside))


def errors_on_half(in_scores: ArrayLike, out_scores: ArrayLike, seed: int = 0) -> Errors:
    """The errors on one half of the games, at the threshold that was best for mu on the other half.

    Raises:
        InputError: there are fewer than four games on either side, or a score is NaN.
    """
    rng = np.random.default_rng(seed)
    inside, outside = (rng.permutation(require_scores(scores)) for scores in (in_scores, out_scores))
    if min(len(inside), len(outside)) < 4:
        raise InputError(f"{len(inside)} games with the canary and {len(outside)} without; play at least 4 of each")
    ins, outs = len(inside) // 2, len(outside) // 2
    tried_in, tried_out = np.sort(inside[:ins]), np.sort(outside[:outs])
    thresholds = np.concatenate([tried_in, tried_out])
    misses = np.searchsorted(tried_in, thresholds, side="right")
    alarms = outs - np.searchsorted(tried_out, thresholds, side="right")
    apart = -ndtri(_roughly_above(alarms, outs)) - ndtri(_roughly_above(misses, ins))
    return errors_at(inside[ins:], outside[outs:], float(thresholds[apart.argmax()]))


def epsilon_at(errors: Errors, delta: float, level: float) -> float:
    r"""Lower bound :math:`\max(\log\frac{1 - \delta - b}{a}, \log\frac{1 - \delta - a}{b})` on epsilon.

    a and b are upper limits of the two rates (Jagielski, Ullman and Oprea, 2020).
    """
    false_alarms, misses = errors.upper(level)
    pairs = ((false_alarms, misses), (misses, false_alarms))
    return max(0.0, *(math.log((1 - delta - b) / a) if 1 - delta > b else 0.0 for a, b in pairs))


def mu_at(errors: Errors, level: float) -> float:
    r"""Lower bound :math:`\Phi^{-1}(1 - a) - \Phi^{-1}(b)` on every mu for which the algorithm is mu-Gaussian private.

    a and b are upper limits of the two rates (Nasr et al. 2023).
    """
    false_alarms, misses = errors.upper(level)
    return max(0.0, float(-ndtri(false_alarms) - ndtri(misses)))


def mu_p_value(errors: Errors, mu: float) -> float:
    """Smallest level at which mu-Gaussian DP is rejected."""
    return smallest_level(lambda level: mu_at(errors, level) > mu)


def epsilon_p_value(errors: Errors, epsilon: float, delta: float) -> float:
    """Smallest level at which (epsilon, delta)-privacy is rejected."""
    return smallest_level(lambda level: epsilon_at(errors, delta, level) > epsilon)


def _roughly_above(counts: NDArray[np.int64], games: int) -> NDArray[np.float64]:
    """What upper limits of the rates will be like; a choice made by it is as valid as any."""
    return np.asarray(np.minimum((counts + 2 * np.sqrt(counts) + 2) / games, 1.0))


def _upper(count: int, games: int, level: float) -> float:
    """One-sided Clopper-Pearson upper limit of a rate."""
    return 1.0 if count >= games else float(beta.isf(level, count + 1, games - count))
