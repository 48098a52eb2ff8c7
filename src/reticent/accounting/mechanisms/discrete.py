"""Mechanisms with Laplace or discrete noise, and any discrete privacy loss; plain or Poisson-sampled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from reticent.accounting.atomic_loss import AtomicLoss
from reticent.accounting.checks import require_open, require_sampling_rate, require_steps
from reticent.accounting.discrete_gaussian_loss import DiscreteGaussianLoss
from reticent.accounting.laplace_loss import LaplaceLoss
from reticent.accounting.loss import Loss, SampledLoss
from reticent.accounting.loss_bounds import Release
from reticent.accounting.mechanisms.local import response_loss
from reticent.accounting.mechanisms.mechanism import ACCURACY, Plan, Stored, Unit, profile_of, require_unit
from reticent.accounting.profiles import PrivacyProfile
from reticent.errors import InputError


class _Repeated(Stored):
    """`steps` releases of one symmetric loss, each unit taking part in each with probability `sampling_rate`."""

    sampling: ClassVar[str] = "poisson"

    sampling_rate: float
    steps: int
    unit: Unit

    def _require(self) -> None:
        require_sampling_rate(self.sampling_rate)
        require_steps(self.steps)
        require_unit(self.unit)

    @property
    def _loss(self) -> Loss:
        raise NotImplementedError

    @property
    def plans(self) -> tuple[Plan, ...]:
        """One kind of release."""
        loss = self._loss if self.sampling_rate == 1 else SampledLoss(self._loss, self.sampling_rate)
        return ((Release(loss, self.steps),),)

    @property
    def attained(self) -> tuple[Plan, ...]:
        """The same."""
        return self.plans

    def profile(self, accuracy: float = ACCURACY) -> PrivacyProfile:
        """Certified bounds."""
        return profile_of(self.plans, accuracy=accuracy)


@dataclass(frozen=True)
class Laplace(_Repeated):
    """Laplace noise on `steps` numbers: noise_multiplier = scale of the noise / L1 sensitivity.

    Raises:
        InputError: a number is out of range.
    """

    noise_multiplier: float
    sampling_rate: float = 1.0
    steps: int = 1
    unit: Unit = "subject"

    def __post_init__(self) -> None:
        require_open("noise_multiplier", self.noise_multiplier, 1e-6, 1e9)
        self._require()

    @property
    def _loss(self) -> LaplaceLoss:
        return LaplaceLoss(self.noise_multiplier)


@dataclass(frozen=True)
class DiscreteGaussian(_Repeated):
    """Discrete Gaussian noise, P(x) ~ e^(-x^2 / (2 sigma^2)) over the integers, on `steps` counts of that sensitivity.

    Raises:
        InputError: a number is out of range.
    """

    sigma: float
    sensitivity: int = 1
    sampling_rate: float = 1.0
    steps: int = 1
    unit: Unit = "subject"

    def __post_init__(self) -> None:
        require_open("sigma", self.sigma, 0.01, 1e4)
        require_steps(self.sensitivity, "sensitivity")
        self._require()

    @property
    def _loss(self) -> DiscreteGaussianLoss:
        return DiscreteGaussianLoss(self.sigma, self.sensitivity)


@dataclass(frozen=True)
class RandomisedResponse(_Repeated):
    """Randomised response on `steps` answers out of `categories` that one unit can change: the truth with probability
    e^epsilon / (e^epsilon + categories - 1), each other answer equally often.

    Raises:
        InputError: a number is out of range.
    """

    epsilon: float
    categories: int = 2
    sampling_rate: float = 1.0
    steps: int = 1
    unit: Unit = "subject"

    def __post_init__(self) -> None:
        require_open("epsilon", self.epsilon, 0.0, 600.0)
        require_steps(self.categories, "categories", least=2)
        self._require()

    @property
    def _loss(self) -> AtomicLoss:
        return response_loss(self.epsilon, self.categories)


@dataclass(frozen=True)
class DiscreteLoss(Stored):
    """`steps` releases of which the privacy loss takes finitely many values, given with their probabilities.

    `losses` increase strictly; `probabilities` are those with the unit present (P), `infinite` the rest to 1. Without
    the unit the loss l has probability e^-l times that (Q), and what Q lacks to 1 has a loss of minus infinity. (P, Q)
    is to dominate removal and (Q, P) addition.

    Raises:
        InputError: the numbers are no such distribution.
    """

    losses: tuple[float, ...]
    probabilities: tuple[float, ...]
    infinite: float = 0.0
    steps: int = 1
    unit: Unit = "subject"

    def __post_init__(self) -> None:
        object.__setattr__(self, "losses", tuple(float(loss) for loss in self.losses))
        object.__setattr__(self, "probabilities", tuple(float(share) for share in self.probabilities))
        require_steps(self.steps)
        require_unit(self.unit)
        if len(self.losses) != len(self.probabilities) or not self.losses:
            raise InputError("losses and probabilities differ in length, or are empty; give one probability a loss")
        if not all(a < b for a, b in zip(self.losses, self.losses[1:], strict=False)):
            raise InputError("losses do not increase strictly; sort them and merge equal ones")
        if not all(math.isfinite(loss) for loss in self.losses):
            raise InputError("losses contain an infinity or NaN; give the mass at infinity as infinite")
        if not (all(share >= 0 for share in self.probabilities) and 0 <= self.infinite < 1):
            raise InputError("probabilities and infinite must lie between 0 and 1")
        if abs(math.fsum(self.probabilities) + self.infinite - 1) > 1e-9:
            raise InputError(
                f"probabilities and infinite sum to {math.fsum(self.probabilities) + self.infinite}, not 1"
            )
        if self._absent_mass > 1 + 1e-9:
            raise InputError(f"e^-loss times the probabilities sums to {self._absent_mass}, more than 1")

    @property
    def _absent_mass(self) -> float:
        pairs = zip(self.losses, self.probabilities, strict=True)
        return math.fsum(math.exp(min(700.0, -loss)) * share for loss, share in pairs)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """One kind of release."""
        missing = max(0.0, 1 - self._absent_mass)
        there = [(loss, math.log(share)) for loss, share in zip(self.losses, self.probabilities, strict=True) if share]
        losses, log_present = zip(*there, strict=True)
        loss = AtomicLoss(losses, log_present, self.infinite, missing if missing > 1e-12 else 0.0, _lattice(losses))
        return ((Release(loss, self.steps),),)

    @property
    def attained(self) -> tuple[Plan, ...]:
        """The same."""
        return self.plans

    def profile(self, accuracy: float = ACCURACY) -> PrivacyProfile:
        """Certified bounds."""
        return profile_of(self.plans, accuracy=accuracy)


def _lattice(losses: tuple[float, ...]) -> float | None:
    """The smallest loss, if the others are multiples of it."""
    unit = min((abs(loss) for loss in losses if loss), default=None)
    return unit if unit and all(abs(loss / unit - round(loss / unit)) < 1e-12 for loss in losses) else None
