"""The noise that meets a target risk."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from reticent.accounting.checks import require_open
from reticent.accounting.gaussian import epsilon_at
from reticent.accounting.mechanisms import Mechanism
from reticent.accounting.profiles import PrivacyProfile
from reticent.errors import InputError

TOLERANCE = 1e-4
SMALLEST, LARGEST = 0.01, 1000.0
BRACKET = 1.3


@dataclass(frozen=True)
class EpsilonTarget:
    """At most `epsilon` at `delta`."""

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        require_open("epsilon", self.epsilon, 0.0, math.inf)
        require_open("delta", self.delta, 0.0, 1.0)

    @property
    def value(self) -> float:
        """The number to stay below."""
        return self.epsilon

    def achieved(self, profile: PrivacyProfile) -> float:
        """The guaranteed epsilon of a profile."""
        return profile.epsilon(self.delta).safe

    def gaussian_mu(self) -> float:
        """The mu whose Gaussian mechanism just meets the target."""
        low, high = 1e-9, 1e3
        while high / low > 1.001:
            middle = math.sqrt(low * high)
            low, high = (low, middle) if epsilon_at(middle, self.delta) > self.epsilon else (middle, high)
        return low

    def __str__(self) -> str:
        return f"epsilon {self.epsilon:g} at delta {self.delta:g}"


@dataclass(frozen=True)
class MuTarget:
    """At most `mu` for tests whose two errors are at least `alpha_min`."""

    mu: float
    alpha_min: float = 1e-10

    def __post_init__(self) -> None:
        require_open("mu", self.mu, 0.0, math.inf)
        require_open("alpha_min", self.alpha_min, 0.0, 0.5)

    @property
    def value(self) -> float:
        """The number to stay below."""
        return self.mu

    def achieved(self, profile: PrivacyProfile) -> float:
        """The guaranteed mu of a profile."""
        return profile.mu(self.alpha_min).safe

    def gaussian_mu(self) -> float:
        """The target itself."""
        return self.mu

    def __str__(self) -> str:
        return f"mu {self.mu:g}"


@dataclass(frozen=True)
class AdvantageTarget:
    """At most `advantage` in membership inference.

    An advantage alone bounds no attack at a low false-positive rate: report epsilon or mu beside it.
    """

    advantage: float

    def __post_init__(self) -> None:
        require_open("advantage", self.advantage, 0.0, 1.0)

    @property
    def value(self) -> float:
        """The number to stay below."""
        return self.advantage

    def achieved(self, profile: PrivacyProfile) -> float:
        """The guaranteed advantage of a profile."""
        return profile.advantage().safe

    def gaussian_mu(self) -> float:
        """mu = 2 Phi^-1((1 + advantage) / 2)."""
        from scipy.special import ndtri

        return 2 * float(ndtri((1 + self.advantage) / 2))

    def __str__(self) -> str:
        return f"advantage {self.advantage:g}"


Target = EpsilonTarget | MuTarget | AdvantageTarget


def calibrate(make: Callable[[float], Mechanism], target: Target) -> float:
    """Smallest noise multiplier certified to meet `target`: never below it, and within 1e-4 relative above.

    `make` builds the mechanism for a noise multiplier and may return a `Composition`, of which the rest stays fixed.
    The search starts from the central-limit guess mu = q sqrt(T (e^(1/sigma^2) - 1)) (Dong, Roth and Su, 2022)
    and brackets it by factors of 1.3.

    Raises:
        InputError: no noise multiplier between 0.01 and 1000 is the answer.
    """

    def excess(noise: float) -> float:
        return math.log(max(target.achieved(make(noise).profile()), 1e-300) / target.value)

    low, high = _bracket(excess, _first_guess(make, target), target)
    # Secants of the logarithm, a little to either side in turn, so that the bracket closes from both ends.
    for aim in itertools.cycle((0.4 * TOLERANCE, -0.4 * TOLERANCE)):
        width = math.log(high[0] / low[0])
        if width <= TOLERANCE:
            break
        secant = width * low[1] / (low[1] - high[1])
        point = low[0] * math.exp(min(0.95 * width, max(0.05 * width, secant + aim)))
        value = excess(point)
        low, high = ((point, value), high) if value > 0 else (low, (point, value))
    return high[0]


def _bracket(
    excess: Callable[[float], float], guess: float, target: Target
) -> tuple[tuple[float, float], tuple[float, float]]:
    """(noise, excess) on either side of the target, never far below the guess, where accounting is slow."""
    point, value = guess, excess(guess)
    direction = BRACKET if value > 0 else 1 / BRACKET
    while True:
        following = min(LARGEST, max(SMALLEST, point * direction))
        if following == point:
            raise InputError(
                f"{target} is out of reach with a noise multiplier between {SMALLEST:g} and {LARGEST:g}; "
                f"{'relax the target or take fewer steps' if value > 0 else 'tighten the target'}"
            )
        value_there = excess(following)
        if value > 0 >= value_there:
            return (point, value), (following, value_there)
        if value_there > 0 >= value:
            return (following, value_there), (point, value)
        point, value = following, value_there


def _first_guess(make: Callable[[float], Mechanism], target: Target) -> float:
    wanted = target.gaussian_mu()
    low, high = SMALLEST, LARGEST
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _central_limit_mu(make(middle)) > wanted else (low, middle)
    return high


def _central_limit_mu(mechanism: Mechanism) -> float:
    if mechanism.sampled_steps is None:
        return math.inf
    return math.sqrt(
        sum(
            count * (rate**2 * math.expm1(min(700.0, sigma**-2)) if rate < 1 else sigma**-2)
            for sigma, rate, count in mechanism.sampled_steps
        )
    )
