"""Mechanisms with Gaussian noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from reticent.accounting.checks import require_open, require_sampling_rate, require_steps
from reticent.accounting.gaussian_loss import GaussianLoss
from reticent.accounting.loss import SymmetrisedLoss
from reticent.accounting.loss_bounds import Release
from reticent.accounting.mechanisms.mechanism import ACCURACY, REPLACE, Plan, Stored, Unit, profile_of, require_unit
from reticent.accounting.profiles import PrivacyProfile
from reticent.errors import InputError


@dataclass(frozen=True)
class Gaussian(Stored):
    """Gaussian noise on `steps` sums over all units: noise_multiplier = noise standard deviation / L2 sensitivity.

    Raises:
        InputError: noise_multiplier is not positive and finite, or steps is not a whole number >= 1.
    """

    noise_multiplier: float
    steps: int = 1
    unit: Unit = "subject"

    def __post_init__(self) -> None:
        require_open("noise_multiplier", self.noise_multiplier, 0.0, math.inf)
        require_steps(self.steps)
        require_unit(self.unit)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """One kind of release."""
        return ((Release(GaussianLoss(self.noise_multiplier), self.steps),),)

    attained = plans

    def profile(self, accuracy: float = ACCURACY) -> PrivacyProfile:
        """Exact: the mu-Gaussian trade-off with mu = sqrt(steps) / noise_multiplier."""
        return profile_of(self.plans)


@dataclass(frozen=True)
class SubsampledGaussian(Stored):
    """Gaussian noise on `steps` sums, each over units drawn independently with probability `sampling_rate` (DP-SGD).

    Raises:
        InputError: noise_multiplier is not positive and finite, sampling_rate is not in (0, 1], or steps is not a
            whole number >= 1.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int
    unit: Unit = "subject"

    sampling: ClassVar[str] = "poisson"

    def __post_init__(self) -> None:
        require_open("noise_multiplier", self.noise_multiplier, 0.0, math.inf)
        require_sampling_rate(self.sampling_rate)
        require_steps(self.steps)
        require_unit(self.unit)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """One kind of release."""
        return ((Release(GaussianLoss(self.noise_multiplier, self.sampling_rate), self.steps),),)

    attained = plans

    def profile(self, accuracy: float = ACCURACY) -> PrivacyProfile:
        """Certified bounds; exact at a sampling rate of 1."""
        return profile_of(self.plans, accuracy=accuracy)


@dataclass(frozen=True)
class ComplexGaussian(Stored):
    """Complex Gaussian noise on `steps` sums of complex vectors, optionally over Poisson-sampled units.

    noise_multiplier = standard deviation of *each part*, real and imaginary, / sensitivity in the complex L2 norm, so
    that mu = 1 / noise_multiplier without sampling; `correlation` rho between the parts of an entry makes the worst
    direction noisier by less, mu = 1 / (noise_multiplier sqrt(1 - |rho|)) (Riess et al., 2024; circular noise, rho = 0,
    is best). Noise of total variance s^2 an entry, as from a complex standard normal, has parts of s / sqrt(2).

    Raises:
        InputError: a number is out of range.
    """

    noise_multiplier: float
    sampling_rate: float = 1.0
    steps: int = 1
    correlation: float = 0.0
    unit: Unit = "subject"

    sampling: ClassVar[str] = "poisson"

    def __post_init__(self) -> None:
        require_open("noise_multiplier", self.noise_multiplier, 0.0, math.inf)
        require_sampling_rate(self.sampling_rate)
        require_steps(self.steps)
        require_open("correlation", self.correlation, -1.0, 1.0)
        require_unit(self.unit)

    @classmethod
    def from_total_std(cls, total_std: float, sensitivity: float, steps: int = 1) -> ComplexGaussian:
        """Circular noise whose variance an entry is total_std^2, half of it in each part."""
        require_open("total_std", total_std, 0.0, math.inf)
        require_open("sensitivity", sensitivity, 0.0, math.inf)
        return cls(total_std / math.sqrt(2) / sensitivity, steps=steps)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """That of real noise in the direction where it is weakest."""
        weakest = self.noise_multiplier * math.sqrt(1 - abs(self.correlation))
        return ((Release(GaussianLoss(weakest, self.sampling_rate), self.steps),),)

    attained = plans

    def profile(self, accuracy: float = ACCURACY) -> PrivacyProfile:
        """As for real noise on twice as many coordinates."""
        return profile_of(self.plans, accuracy=accuracy)


@dataclass(frozen=True)
class FixedSizeGaussian(Stored):
    """Gaussian noise on `steps` sums, each over `sample_size` of `population` units drawn without replacement.

    Neighbours replace one unit, which moves a sum of clipped contributions by twice the clip norm:
    noise_multiplier = noise standard deviation / clip norm, mu = 2 / noise_multiplier where the unit is drawn. Upper
    bounds are those of the symmetrised pair, which dominates both orders (Zhu, Dong and Wang, 2022, Theorem 11); lower
    bounds those of cohorts whose other units all pull the same way (Lebeda et al., 2024).

    Raises:
        InputError: a number is out of range.
    """

    noise_multiplier: float
    sample_size: int
    population: int
    steps: int
    unit: Unit = "subject"

    neighbouring_relation: ClassVar[str] = REPLACE
    sampling: ClassVar[str] = "fixed-size"

    def __post_init__(self) -> None:
        require_open("noise_multiplier", self.noise_multiplier, 0.0, math.inf)
        for name in ("sample_size", "population", "steps"):
            require_steps(getattr(self, name), name)
        if self.sample_size > self.population:
            raise InputError(f"sample_size is {self.sample_size}, more than the population of {self.population}")
        require_unit(self.unit)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The symmetrised pair."""
        loss = self._loss
        return ((Release(loss if loss.rate == 1 else SymmetrisedLoss(loss), self.steps),),)

    @property
    def attained(self) -> tuple[Plan, ...]:
        """A sampled shift of two clip norms."""
        return ((Release(self._loss, self.steps),),)

    @property
    def _loss(self) -> GaussianLoss:
        return GaussianLoss(self.noise_multiplier / 2, self.sample_size / self.population)

    def profile(self, accuracy: float = ACCURACY) -> PrivacyProfile:
        """Certified bounds."""
        return profile_of(self.plans, self.attained, accuracy)


@dataclass(frozen=True)
class BandedGaussian(Stored):
    """Gaussian noise correlated over steps by a matrix with `bands` bands, with cyclic Poisson sampling (DP-MF).

    The units are split at random into `bands` groups; step t draws from group t mod bands, each of its units with
    probability `sampling_rate`. noise_multiplier = noise standard deviation / (clip norm * largest column norm of the
    banded strategy matrix). A unit takes part at most once in any `bands` steps, and the run is as private as
    ceil(steps / bands) sampled Gaussian steps (Choquette-Choo et al., 2023, Theorem 4).

    Raises:
        InputError: a number is out of range.
    """

    noise_multiplier: float
    bands: int
    sampling_rate: float
    steps: int
    unit: Unit = "subject"

    sampling: ClassVar[str] = "cyclic-poisson"

    def __post_init__(self) -> None:
        require_open("noise_multiplier", self.noise_multiplier, 0.0, math.inf)
        require_steps(self.bands, "bands")
        require_sampling_rate(self.sampling_rate)
        require_steps(self.steps)
        require_unit(self.unit)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """Sampled Gaussian steps, one each time that a group's turn comes."""
        return ((Release(GaussianLoss(self.noise_multiplier, self.sampling_rate), -(-self.steps // self.bands)),),)

    attained = plans

    def profile(self, accuracy: float = ACCURACY) -> PrivacyProfile:
        """Certified bounds."""
        return profile_of(self.plans, accuracy=accuracy)
