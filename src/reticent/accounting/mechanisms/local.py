"""Local mechanisms: every unit's own value leaves with noise, and no sum with other units hides it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from reticent.accounting.atomic_loss import AtomicLoss
from reticent.accounting.checks import require_open, require_steps
from reticent.accounting.gaussian_loss import GaussianLoss
from reticent.accounting.loss_bounds import Release
from reticent.accounting.mechanisms.mechanism import ACCURACY, REPLACE, Plan, Stored, Unit, profile_of, require_unit
from reticent.accounting.profiles import PrivacyProfile


@dataclass(frozen=True)
class LocalGaussian(Stored):
    """Gaussian noise on every unit's own vector of L2 norm at most C, drawn anew for each of `steps` releases of it.

    noise_multiplier = noise standard deviation / C. Neighbours replace one unit, which moves its vector by at most 2 C:
    mu = 2 sqrt(steps) / noise_multiplier. Adding or removing one would change the number of vectors.

    Raises:
        InputError: noise_multiplier is not positive and finite, or steps is not a whole number >= 1.
    """

    noise_multiplier: float
    steps: int = 1
    unit: Unit = "subject"

    neighbouring_relation: ClassVar[str] = REPLACE

    def __post_init__(self) -> None:
        require_open("noise_multiplier", self.noise_multiplier, 0.0, math.inf)
        require_steps(self.steps)
        require_unit(self.unit)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """A shift by two bounds."""
        return ((Release(GaussianLoss(self.noise_multiplier / 2), self.steps),),)

    attained = plans

    def profile(self, accuracy: float = ACCURACY) -> PrivacyProfile:
        """Exact: the mu-Gaussian trade-off with mu = 2 sqrt(steps) / noise_multiplier."""
        return profile_of(self.plans)


@dataclass(frozen=True)
class LocalRandomisedResponse(Stored):
    """Randomised response on `steps` answers of every unit, each out of `categories` (Warner, 1965): the truth with
    probability e^epsilon / (e^epsilon + categories - 1), each other answer equally often. Neighbours replace one unit.

    Raises:
        InputError: a number is out of range.
    """

    epsilon: float
    categories: int = 2
    steps: int = 1
    unit: Unit = "subject"

    neighbouring_relation: ClassVar[str] = REPLACE

    def __post_init__(self) -> None:
        require_open("epsilon", self.epsilon, 0.0, 600.0)
        require_steps(self.categories, "categories", least=2)
        require_steps(self.steps)
        require_unit(self.unit)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """One kind of release."""
        return ((Release(response_loss(self.epsilon, self.categories), self.steps),),)

    attained = plans

    def profile(self, accuracy: float = ACCURACY) -> PrivacyProfile:
        """Certified bounds."""
        return profile_of(self.plans, accuracy=accuracy)


def response_loss(epsilon: float, categories: int) -> AtomicLoss:
    """Loss of one randomised response: epsilon at the one truth, minus epsilon at the other, 0 at the rest."""
    log_total = math.log(math.exp(epsilon) + categories - 1)
    losses, log_present = [-epsilon, epsilon], [-log_total, epsilon - log_total]
    if categories > 2:
        losses.insert(1, 0.0)
        log_present.insert(1, math.log(categories - 2) - log_total)
    return AtomicLoss(tuple(losses), tuple(log_present), lattice=epsilon)
