"""What one run with many canaries proves: lower bounds on epsilon and mu from the number of right guesses.

Each of m canaries entered the run by a fair coin of its own. The adversary sees the run's output, guesses for the
canaries it is surest of whether they were in, and abstains on the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from reticent.attacks.auditing.rejection import largest_rejected, smallest_level
from reticent.attacks.scores import require_scores
from reticent.errors import InputError

SMALLEST_ERROR = 1e-10
"""Below this error rate the mu of a statement says nothing, and none is assumed."""
_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class Guesses:
    """Of `canaries`, each in or out by a fair coin, the adversary guessed `made` and got `right` of them."""

    canaries: int
    made: int
    right: int

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.made <= self.canaries or self.canaries < 1:
            raise InputError(
                f"{self.right} right of {self.made} guesses on {self.canaries} canaries: not 0 <= right <= made <= all"
            )


def guess(in_scores: ArrayLike, out_scores: ArrayLike, each: int, seed: int = 0) -> Guesses:
    """Guess the `each` highest scores as in and the `each` lowest as out; equal scores are ordered at random.

    `each` must be fixed before the scores are seen (see `guesses_for`).

    Raises:
        InputError: there are fewer than 2 `each` scores, or a score is NaN.
    """
    inside, outside = require_scores(in_scores), require_scores(out_scores)
    scores, is_in = np.concatenate([inside, outside]), np.arange(len(inside) + len(outside)) < len(inside)
    if not 0 < 2 * each <= len(scores):
        raise InputError(f"{each} guesses on either side of {len(scores)} canaries; take fewer, or more canaries")
    mixed = np.random.default_rng(seed).permutation(len(scores))
    order = mixed[np.argsort(scores[mixed], kind="stable")]
    right = int(is_in[order[-each:]].sum() + (~is_in[order[:each]]).sum())
    return Guesses(len(scores), 2 * each, right)


def epsilon_p_value(guesses: Guesses, epsilon: float, delta: float) -> float:
    r"""Most that the chance of so many right guesses can be for an (epsilon, delta)-private algorithm.

    With q = 1 / (1 + e^-epsilon), r guesses, v of them right and m canaries

    .. math:: P(B \ge v) + 2 m \delta \max_{1 \le i \le v} P(v > B \ge v - i) / i, \quad B \sim \mathrm{Bin}(r, q)

    (Steinke, Nasr and Jagielski, Privacy auditing with one (1) training run, 2023, main theorem).
    """
    made, right = guesses.made, guesses.right
    chance = 1 / (1 + math.exp(-epsilon))
    tail = float(binom.sf(right - 1, made, chance))
    if not delta or not right:
        return min(1.0, tail)
    below = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), made, chance))
    return min(1.0, tail + 2 * guesses.canaries * delta * float((below / np.arange(1, right + 1)).max()))


def epsilon_at(guesses: Guesses, delta: float, level: float) -> float:
    """Largest epsilon whose p-value is below `level`: the algorithm's is larger, but for a chance of `level`.

    Every epsilon below is rejected too, for what is (e, delta)-private is so for larger e.
    """
    return largest_rejected(lambda epsilon: epsilon_p_value(guesses, epsilon, delta) < level)


def mu_p_value(guesses: Guesses, mu: float, smallest_error: float = 0.0) -> float:
    """Smallest level at which mu-Gaussian DP is rejected by so many right guesses; see `rejects_mu`."""
    return smallest_level(lambda level: rejects_mu(guesses, mu, level, smallest_error))


def rejects_mu(guesses: Guesses, mu: float, level: float, smallest_error: float = 0.0) -> bool:
    """Whether so many right guesses have a chance below `level` for every mu-Gaussian private algorithm.

    The recursion of Mahloujifar, Melis and Chaudhuri (Auditing f-differential privacy in one run, 2024), with
    f(alpha) = Phi(Phi^-1(1 - alpha) - mu): from the chance of many right guesses down to that of none.

    Args:
        smallest_error: mu is taken to hold for attacks whose two error rates are at least this (see
            `PrivacyProfile.mu`); of others nothing is assumed.
    """
    made, right, canaries = guesses.made, guesses.right, guesses.canaries
    if not right:
        return False
    found, missed = level * right / canaries, level * (made - right) / canaries
    for i in range(right - 1, -1, -1):
        false_alarms = float(ndtr(ndtri(min(found, 1 - smallest_error)) - mu))
        more = max(missed, false_alarms if false_alarms >= smallest_error else 0.0)
        found, missed = min(1.0, found + i / (made - i) * (more - missed)), more
    return found + missed > made / canaries


@lru_cache(maxsize=4096)
def mu_at(guesses: Guesses, level: float) -> float:
    """Largest mu that is rejected at `level`."""
    return largest_rejected(lambda mu: rejects_mu(guesses, mu, level))


def guesses_for(canaries: int, mu: float, bound: Callable[[Guesses], float]) -> int:
    """Guesses on either side with the highest expected `bound` if scores are Gaussian, mu apart: no score is seen."""
    choices = sorted({max(1, round(share * canaries)) for share in _SHARES if 2 * round(share * canaries) <= canaries})
    return max(choices, key=lambda each: bound(_expected(canaries, each, mu)))


def _expected(canaries: int, each: int, mu: float) -> Guesses:
    """The guesses right in expectation: of the mixture of N(-mu/2, 1) and N(mu/2, 1) beyond its quantile."""
    low, high = 0.0, mu / 2 + 40.0
    for _ in range(60):
        middle = (low + high) / 2
        share = (ndtr(mu / 2 - middle) + ndtr(-mu / 2 - middle)) / 2
        low, high = (middle, high) if share > each / canaries else (low, middle)
    inside, outside = float(ndtr(mu / 2 - low)), float(ndtr(-mu / 2 - low))
    return Guesses(canaries, 2 * each, round(2 * each * inside / max(inside + outside, 1e-300)))
