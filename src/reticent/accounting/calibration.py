"""The noise, steps or sampling rate that meets a target risk."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from reticent.accounting.checks import require_open
from reticent.accounting.loss_bounds import Release
from reticent.accounting.mechanisms import Mechanism
from reticent.accounting.mechanisms.mechanism import ACCURACY
from reticent.accounting.plans import gaussian_mu
from reticent.accounting.profiles import PrivacyProfile
from reticent.accounting.targets import EpsilonTarget, Target
from reticent.accounting.values import Certified
from reticent.errors import InputError

TOLERANCE = 1e-4
ROUGH = 1e-3
BRACKET = 1.3
Knob = Literal["noise_multiplier", "steps", "sampling_rate"]
LIMITS: dict[Knob, tuple[float, float]] = {
    "noise_multiplier": (1e-5, 1e4),
    "steps": (1, 10_000_000),
    "sampling_rate": (1e-9, 1.0),
}

_Point = tuple[float, float]


@dataclass(frozen=True)
class Calibration:
    """The `value` of the knob that meets the target, and what the mechanism then has.

    `violating` is the nearest value known to miss the target: the answer is at most that far from the best one. None
    where the whole range meets it.
    """

    value: float
    mechanism: Mechanism
    profile: PrivacyProfile
    achieved: Certified
    violating: float | None


def calibrate(make: Callable[[float], Mechanism], target: Target, knob: Knob = "noise_multiplier") -> Calibration:
    """Least noise, or most steps, or largest sampling rate, certified to meet `target`; within 1e-4 relative of it.

    `make` builds the mechanism for a value of the knob and may return a `Composition`, of which the rest stays fixed;
    steps come as whole numbers. Noise is sought from the central-limit guess mu = q sqrt(T (e^(1/sigma^2) - 1)) (Dong,
    Roth and Su, 2022), first on a rough curve, and always ends on the safe side of the fine one.

    Raises:
        InputError: nothing in range is the answer: noise 1e-5 to 10,000, steps 1 to 10 million, rate 1e-9 to 1.
    """
    search = _Search(make, target, knob)
    safe, violating = search.run()
    mechanism = make(safe)
    profile = mechanism.profile()
    return Calibration(safe, mechanism, profile, target.achieved(profile), violating)


def two_step(make: Callable[[float], Mechanism], target: Target, delta: float) -> Calibration | None:
    """The noise of the usual route: the epsilon at `delta` that implies the target, then the noise for that epsilon.

    None where no epsilon at this delta implies the target, or none within range.

    Raises:
        InputError: delta is not between 0 and 1.
    """
    require_open("delta", delta, 0.0, 1.0)
    epsilon = target.implied_epsilon(delta)
    if not epsilon:
        return None
    try:
        return calibrate(make, EpsilonTarget(epsilon, delta))
    except InputError:
        return None


@dataclass(frozen=True)
class _Search:
    """Looks for the answer along a strength that privacy grows with: the noise, or 1 / steps, or 1 / sampling rate."""

    make: Callable[[float], Mechanism]
    target: Target
    knob: Knob

    def value(self, strength: float) -> float:
        """The knob's value."""
        if self.knob == "noise_multiplier":
            return strength
        least, most = LIMITS[self.knob]
        value = min(most, max(least, 1 / strength))
        return round(value) if self.knob == "steps" else value

    @property
    def limits(self) -> _Point:
        """Weakest and strongest."""
        least, most = LIMITS[self.knob]
        return (least, most) if self.knob == "noise_multiplier" else (1 / most, 1 / least)

    def excess(self, strength: float, accuracy: float) -> float:
        """Logarithm of what is achieved over what is wanted; <= 0 is safe."""
        achieved = self.target.achieved(self.make(self.value(strength)).profile(accuracy)).upper
        return math.log(max(achieved, 1e-300) / self.target.value)

    def run(self) -> tuple[float, float | None]:
        """(safe, violating) values of the knob."""
        rough, _ = self.narrow(self.first_guess(), BRACKET, 30 * TOLERANCE, ROUGH)
        safe, violating = self.narrow(rough, 1 + 20 * TOLERANCE, TOLERANCE, ACCURACY)
        if violating is None:
            return self.value(safe), None
        if self.knob != "steps":
            return self.value(safe), self.value(violating)
        low, high = int(self.value(safe)), int(self.value(violating))
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.excess(1 / middle, ACCURACY) <= 0 else (low, middle)
        return low, high

    def narrow(self, guess: float, factor: float, tolerance: float, accuracy: float) -> tuple[float, float | None]:
        """(safe, violating) strengths, the first at most `tolerance` above the second; by secants of the logarithm.

        The secants aim a little to either side in turn, so that the bracket closes from both ends.
        """
        low, high = self.bracket(guess, factor, accuracy)
        if low is None:
            return high[0], None
        for aim in itertools.cycle((0.4 * tolerance, -0.4 * tolerance)):
            width = math.log(high[0] / low[0])
            if width <= tolerance or self.value(low[0]) == self.value(high[0]):
                break
            secant = width * low[1] / (low[1] - high[1]) if math.isfinite(low[1]) else width / 2
            point = low[0] * math.exp(min(0.95 * width, max(0.05 * width, secant + aim)))
            value = self.excess(point, accuracy)
            low, high = ((point, value), high) if value > 0 else (low, (point, value))
        return high[0], low[0]

    def bracket(self, guess: float, factor: float, accuracy: float) -> tuple[_Point | None, _Point]:
        """(strength, excess) on either side of the target, never far below the guess, where accounting is slow.

        No violating one where the weakest value that there is meets the target; for noise that is an error.
        """
        weakest, strongest = self.limits
        point, value = guess, self.excess(guess, accuracy)
        up = value > 0
        while True:
            following = min(strongest, max(weakest, point * (factor if up else 1 / factor)))
            if following == point:
                if up or self.knob == "noise_multiplier":
                    raise InputError(self.out_of_reach(up))
                return None, (point, value)
            value_there = self.excess(following, accuracy)
            if value > 0 >= value_there:
                return (point, value), (following, value_there)
            if value_there > 0 >= value:
                return (following, value_there), (point, value)
            point, value, factor = following, value_there, factor**1.5

    def out_of_reach(self, unmet: bool) -> str:
        """What to say where nothing in range is the answer."""
        least, most = LIMITS[self.knob]
        remedy = "relax the target or take fewer steps" if unmet else "tighten the target"
        return f"{self.target} is out of reach with {self.knob} between {least:g} and {most:g}; {remedy}"

    def first_guess(self) -> float:
        """Where the central limit theorem would have it."""
        wanted = self.target.gaussian_mu()
        low, high = self.limits
        while high / low > 1.01:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if _central_limit_mu(self.make(self.value(middle))) > wanted else (low, middle)
        return high


def _central_limit_mu(mechanism: Mechanism) -> float:
    if mechanism.plans is None:
        return math.inf
    return max(math.sqrt(sum(_squared_index(release) for release in plan)) for plan in mechanism.plans)


def _squared_index(release: Release) -> float:
    """T / sigma^2 of plain Gaussians, else T chi^2, which is T q^2 (e^(1/sigma^2) - 1) for sampled ones."""
    plain = gaussian_mu((release,))
    return release.times * math.expm1(min(600.0, release.loss.log_moment(2))) if plain is None else plain**2
