"""Risk targets that noise, steps or sampling rate can be calibrated to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from scipy.special import ndtri

from reticent.accounting.checks import require_open
from reticent.accounting.gaussian import epsilon_at
from reticent.accounting.profiles import PrivacyProfile
from reticent.accounting.values import Certified
from reticent.errors import InputError


class Target(Protocol):
    """A risk to stay below."""

    @property
    def value(self) -> float:
        """The number to stay below."""

    def achieved(self, profile: PrivacyProfile) -> Certified:
        """What a profile has instead; its guarantee is the upper side."""

    def gaussian_mu(self) -> float:
        """The mu whose Gaussian mechanism just meets the target."""

    def implied_epsilon(self, delta: float) -> float | None:
        """The epsilon at delta that implies the target by itself, as in the two-step route; None if none does."""


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
        """See `Target`."""
        return self.epsilon

    def achieved(self, profile: PrivacyProfile) -> Certified:
        """See `Target`."""
        return profile.epsilon(self.delta)

    def gaussian_mu(self) -> float:
        """See `Target`."""
        low, high = 1e-9, 1e6
        while high / low > 1.001:
            middle = math.sqrt(low * high)
            low, high = (low, middle) if epsilon_at(middle, self.delta) > self.epsilon else (middle, high)
        return low

    def implied_epsilon(self, delta: float) -> float | None:
        """The target itself, at its own delta."""
        return self.epsilon if delta == self.delta else None

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
        """See `Target`."""
        return self.mu

    def achieved(self, profile: PrivacyProfile) -> Certified:
        """See `Target`."""
        return profile.mu(self.alpha_min)

    def gaussian_mu(self) -> float:
        """See `Target`."""
        return self.mu

    def implied_epsilon(self, delta: float) -> float | None:
        """None: no single (epsilon, delta) implies a mu."""
        return None

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
        """See `Target`."""
        return self.advantage

    def achieved(self, profile: PrivacyProfile) -> Certified:
        """See `Target`."""
        return profile.advantage()

    def gaussian_mu(self) -> float:
        """mu = 2 Phi^-1((1 + advantage) / 2)."""
        return 2 * float(ndtri((1 + self.advantage) / 2))

    def implied_epsilon(self, delta: float) -> float | None:
        """log((1 + advantage - 2 delta) / (1 - advantage)) (Kulynych et al., 2024)."""
        gain = 1 + self.advantage - 2 * delta
        return math.log(gain / (1 - self.advantage)) if gain > 1 - self.advantage else None

    def __str__(self) -> str:
        return f"advantage {self.advantage:g}"


@dataclass(frozen=True)
class ErrorRatesTarget:
    """A membership attack with a false-positive rate of `fpr` finds at most a share `tpr` of the members."""

    fpr: float
    tpr: float

    def __post_init__(self) -> None:
        require_open("fpr", self.fpr, 0.0, 1.0)
        require_open("tpr", self.tpr, 0.0, 1.0)
        if self.tpr <= self.fpr:
            raise InputError(f"tpr is {self.tpr:g}, but guessing reaches {self.fpr:g} at this fpr; give a larger tpr")

    @property
    def value(self) -> float:
        """See `Target`."""
        return self.tpr

    def achieved(self, profile: PrivacyProfile) -> Certified:
        """See `Target`."""
        return profile.power(self.fpr)

    def gaussian_mu(self) -> float:
        """mu = Phi^-1(tpr) - Phi^-1(fpr)."""
        return float(ndtri(self.tpr) - ndtri(self.fpr))

    def implied_epsilon(self, delta: float) -> float | None:
        """max of 0, log((1 - delta - fpr) / fnr) and log((1 - delta - fnr) / fpr) (Kulynych et al., 2024)."""
        fnr = 1 - self.tpr
        ratios = [(1 - delta - self.fpr) / fnr, (1 - delta - fnr) / self.fpr]
        return max(0.0, *(math.log(ratio) for ratio in ratios)) or None if min(ratios) > 0 else None

    def __str__(self) -> str:
        return f"true-positive rate {self.tpr:g} at false-positive rate {self.fpr:g}"


@dataclass(frozen=True)
class PrecisionTarget:
    """Of those whom an attack with false-positive rate `fpr` accuses, at most a share `precision` are members.

    `prior` is the share of members among the candidates: precision = prior TPR / (prior TPR + (1 - prior) FPR).
    """

    precision: float
    prior: float
    fpr: float

    def __post_init__(self) -> None:
        for name in ("precision", "prior", "fpr"):
            require_open(name, getattr(self, name), 0.0, 1.0)
        if self.precision <= self.prior:
            raise InputError(f"precision is {self.precision:g}, but guessing has {self.prior:g}; give a larger one")
        if self._rates is None:
            raise InputError(f"precision {self.precision:g} is above what any attack reaches at fpr {self.fpr:g}")

    @property
    def _rates(self) -> ErrorRatesTarget | None:
        tpr = self.precision * (1 - self.prior) * self.fpr / (self.prior * (1 - self.precision))
        return ErrorRatesTarget(self.fpr, tpr) if tpr < 1 else None

    @property
    def value(self) -> float:
        """See `Target`."""
        return self.precision

    def achieved(self, profile: PrivacyProfile) -> Certified:
        """See `Target`."""
        power = profile.power(self.fpr)
        false = (1 - self.prior) * self.fpr
        lower, upper = (self.prior * tpr / (self.prior * tpr + false) for tpr in (power.lower, power.upper))
        return Certified(lower, upper, "upper")

    def gaussian_mu(self) -> float:
        """See `Target`."""
        assert self._rates is not None
        return self._rates.gaussian_mu()

    def implied_epsilon(self, delta: float) -> float | None:
        """That of the true-positive rate it allows."""
        assert self._rates is not None
        return self._rates.implied_epsilon(delta)

    def __str__(self) -> str:
        return f"precision {self.precision:g} at prior {self.prior:g} and false-positive rate {self.fpr:g}"


@dataclass(frozen=True)
class ReconstructionTarget:
    """A record that is guessed with probability `prior` is reconstructed with at most probability `success`."""

    prior: float
    success: float

    def __post_init__(self) -> None:
        require_open("prior", self.prior, 0.0, 1.0)
        require_open("success", self.success, 0.0, 1.0)
        if self.success <= self.prior:
            raise InputError(f"success is {self.success:g}, but guessing reaches {self.prior:g}; give a larger success")

    @property
    def value(self) -> float:
        """See `Target`."""
        return self.success

    def achieved(self, profile: PrivacyProfile) -> Certified:
        """See `Target`."""
        return profile.reconstruction(self.prior)

    def gaussian_mu(self) -> float:
        """mu = Phi^-1(success) - Phi^-1(prior)."""
        return float(ndtri(self.success) - ndtri(self.prior))

    def implied_epsilon(self, delta: float) -> float | None:
        """That of the same error rates."""
        return ErrorRatesTarget(self.prior, self.success).implied_epsilon(delta)

    def __str__(self) -> str:
        return f"reconstruction with probability {self.success:g} from a prior of {self.prior:g}"
