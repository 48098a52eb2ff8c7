"""Comparison of mechanisms beyond one (epsilon, delta): the Delta-divergence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from reticent.accounting.checks import require_open
from reticent.accounting.loss import FloatArray
from reticent.accounting.profiles import PrivacyProfile
from reticent.accounting.values import Certified

POINTS = 2**12
PIECES = 8
ROUNDS = 8
MAX_OPEN = 2**17
FAINT = 1e-12
FALSE_ALARMS = (1e-5, 1e-3, 1e-2, 1e-1)

Verdict = Literal[
    "the second is at least as private", "the first is at least as private", "crossing", "equal", "undecided"
]


@dataclass(frozen=True)
class Divergence:
    """Delta(reference || other): how much more vulnerable the other is at worst, from 0 to 1/2.

    In f-DP: the smallest k with f(x + k) - k <= f~(x) for all x. In (epsilon, delta): the largest
    (delta~ - delta) / (1 + e^epsilon). In Bayes' terms: the largest drop of the attacker's minimum error over all
    priors (Kaissis et al., 2024). `epsilon` is where it is largest.
    """

    value: Certified
    epsilon: float

    @property
    def prior(self) -> float:
        """Prior probability of "not a member" at which the attacker gains most: e^epsilon / (1 + e^epsilon)."""
        return 1 / (1 + math.exp(-min(self.epsilon, 700.0)))


@dataclass(frozen=True)
class Comparison:
    """Two mechanisms, both ways.

    `second_over_first` is what choosing the second instead of the first costs at worst, `first_over_second` the
    reverse. `rows` give (false-positive rate, largest true-positive rate of the first, of the second), which the
    divergence is blind to where both are small.
    """

    second_over_first: Divergence
    first_over_second: Divergence
    advantages: tuple[Certified, Certified]
    rows: tuple[tuple[float, Certified, Certified], ...]
    tolerance: float

    @property
    def symmetric(self) -> Certified:
        """The larger of both, a metric on trade-off curves."""
        one, other = self.second_over_first.value, self.first_over_second.value
        return Certified(max(one.lower, other.lower), max(one.upper, other.upper), "upper")

    @property
    def verdict(self) -> Verdict:
        """Which is at least as private everywhere, up to the tolerance; undecided within the bounds' own width."""
        costs, gains = self.second_over_first.value, self.first_over_second.value
        if costs.upper <= self.tolerance and gains.upper <= self.tolerance:
            return "equal"
        if costs.upper <= self.tolerance:
            return "the second is at least as private"
        if gains.upper <= self.tolerance:
            return "the first is at least as private"
        return "crossing" if min(costs.lower, gains.lower) > 0 else "undecided"

    def reading(self) -> str:
        """The comparison in plain words."""
        costs, gains = self.second_over_first, self.first_over_second
        sentences = [f"Verdict: {self.verdict} (tolerance {self.tolerance:g})."]
        for name, divergence in (("second", costs), ("first", gains)):
            other = "first" if name == "second" else "second"
            sentences.append(
                f"Choosing the {name} instead of the {other} makes the best attacker's decisions right in at most "
                f"{_up(100 * divergence.value.upper)} percentage points more cases"
                + (
                    f", at a prior of {100 * divergence.prior:.3g} % non-members."
                    if divergence.value.upper > self.tolerance
                    else "."
                )
            )
        return " ".join(sentences)


def compare(first: PrivacyProfile, second: PrivacyProfile, tolerance: float = 1e-4) -> Comparison:
    """Compare two profiles of the same unit and neighbouring relation.

    Raises:
        InputError: tolerance is not between 0 and 0.5.
    """
    require_open("tolerance", tolerance, 0.0, 0.5)
    powers = zip(FALSE_ALARMS, first.power(FALSE_ALARMS), second.power(FALSE_ALARMS), strict=True)
    return Comparison(
        delta_divergence(first, second, tolerance / 4),
        delta_divergence(second, first, tolerance / 4),
        (first.advantage(), second.advantage()),
        tuple(powers),
        tolerance,
    )


def delta_divergence(reference: PrivacyProfile, other: PrivacyProfile, tolerance: float = 1e-6) -> Divergence:
    """Delta(reference || other), by dividing the intervals of epsilon that may hold its supremum.

    The bracket is to be no wider than `tolerance`, if the profiles' own bounds allow it.

    Both profiles fall as epsilon grows: between neighbouring epsilons the difference is at most the other's delta at
    the left end less the reference's at the right end. delta(-e) = 1 - e^-e + e^-e delta(e) makes the quotient even in
    epsilon, so epsilon >= 0 is enough.
    """
    reach = max(_reach(reference), _reach(other))
    edges = np.linspace(0.0, reach, POINTS + 1)
    left, right = edges[:-1], edges[1:]
    lower, upper, at, settled = 0.0, 0.0, 0.0, 0.0
    for _ in range(ROUNDS):
        attained, bound = _between(reference, other, left, right)
        best = int(np.argmax(attained))
        if attained[best] > lower:
            lower, at = float(attained[best]), float(left[best])
        upper = max(settled, float(bound.max()))
        open_ = bound > lower + tolerance
        if not open_.any() or open_.sum() > MAX_OPEN:
            break
        settled = max(settled, float(bound[~open_].max(initial=0.0)))
        pieces = np.linspace(left[open_], right[open_], PIECES + 1, axis=1)
        left, right = pieces[:, :-1].ravel(), pieces[:, 1:].ravel()
    beyond = FAINT / (1 + math.exp(min(reach, 700.0)))
    return Divergence(Certified(min(lower, upper), max(upper, beyond if upper else 0.0), "upper"), at)


def bayes_error(profile: PrivacyProfile, prior: float) -> Certified:
    """The attacker's smallest probability of a wrong decision if `prior` of the candidates are no members.

    (1 - w) (1 - delta(log(w / (1 - w)))) (Kaissis et al., 2024).

    Raises:
        InputError: prior is not between 0 and 1.
    """
    require_open("prior", prior, 0.0, 1.0)
    delta = profile.delta(math.log(prior) - math.log1p(-prior))
    return Certified((1 - prior) * (1 - delta.upper), (1 - prior) * (1 - delta.lower), "lower")


def _reach(profile: PrivacyProfile) -> float:
    """Epsilon beyond which delta is at most 1e-12; at most 60, where the quotient is below 1e-26 anyhow."""
    return min(60.0, profile.epsilon(FAINT).upper)


def _between(
    reference: PrivacyProfile, other: PrivacyProfile, left: FloatArray, right: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """What the quotient attains at the left ends, and what it is at most in between."""
    known, others = reference.bounds(left), other.bounds(left)
    scale = 1 + np.exp(left)
    attained = (others[0] - known[1]) / scale
    bound = (others[1] - reference.bounds(right)[0]) / scale
    return attained, np.maximum(bound, 0.0)


def _up(value: float) -> str:
    return str(Certified(value, value, "upper"))
