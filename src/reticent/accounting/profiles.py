"""Privacy profiles: every number that can be read off one mechanism's trade-off curve."""

import math
from collections.abc import Sequence
from typing import Literal, Protocol, overload

import numpy as np
import numpy.typing as npt

from reticent.accounting import gaussian
from reticent.accounting.checks import require_alphas, require_open, require_steps
from reticent.accounting.loss import FloatArray
from reticent.accounting.values import Certified

Alphas = Sequence[float] | npt.NDArray[np.float64]
Direction = Literal["worst", "remove", "add"]
"""Which order of the neighbouring pair: a unit removed, a unit added, or the worse of both (the guarantee)."""


class PrivacyProfile(Protocol):
    """The privacy profile delta(epsilon) of a mechanism and its dual, the trade-off curve.

    Every method raises `InputError` for an argument out of range.
    """

    def epsilon(self, delta: float, direction: Direction = "worst") -> Certified:
        """Smallest epsilon >= 0 at which the mechanism is (epsilon, delta)-private, for 0 < delta < 1."""

    def delta(self, epsilon: float, direction: Direction = "worst") -> Certified:
        """Smallest delta at which the mechanism is (epsilon, delta)-private; epsilon may be negative."""

    @overload
    def tradeoff(self, alpha: float, direction: Direction = "worst") -> Certified: ...
    @overload
    def tradeoff(self, alpha: Alphas, direction: Direction = "worst") -> list[Certified]: ...
    def tradeoff(self, alpha: float | Alphas, direction: Direction = "worst") -> Certified | list[Certified]:
        """The adversary's smallest type II error at type I error(s) alpha, 0 <= alpha <= 1; safe side: lower."""

    @overload
    def power(self, alpha: float, direction: Direction = "worst") -> Certified: ...
    @overload
    def power(self, alpha: Alphas, direction: Direction = "worst") -> list[Certified]: ...
    def power(self, alpha: float | Alphas, direction: Direction = "worst") -> Certified | list[Certified]:
        """The adversary's largest true-positive rate 1 - f(alpha) at false-positive rate(s) alpha, small ones too."""

    def advantage(self) -> Certified:
        """Membership advantage: max over alpha of 1 - alpha - f(alpha) = delta(0)."""

    def mu(self, alpha_min: float = 1e-10) -> Certified:
        """Smallest mu such that no attack whose two errors are at least alpha_min beats the mu-Gaussian trade-off.

        Poisson sampling admits no moderate mu for all tests, so the range belongs to the statement.
        """

    def reconstruction(self, prior: float) -> Certified:
        """Largest probability of reconstructing a record that is guessed with probability `prior` without the output.

        gamma(kappa) = 1 - f(kappa), level under absence and power under presence (Kaissis et al., 2023).
        """

    def group(self, size: int) -> "PrivacyProfile":
        """Profile for groups of `size` units, present or absent together; no Rényi divergence is known of most."""

    def bounds(self, epsilons: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Lower and upper bounds on delta of the worse order at many epsilons >= 0, in increasing order."""

    def approximate_gdp(self, failure: float) -> float:
        """Smallest mu, rounded up, with delta(e) <= delta_mu(e) + failure for all e and both orders."""

    def renyi(self, order: float) -> float:
        """Upper bound on the Rényi divergence of real order > 1, both orders of the neighbouring pair."""


class GaussianProfile:
    """Profile of the mu-Gaussian mechanism, by closed forms (Balle and Wang, 2018; Dong, Roth and Su, 2022)."""

    def __init__(self, mu: float) -> None:
        self.parameter = mu

    def epsilon(self, delta: float, direction: Direction = "worst") -> Certified:
        """See `PrivacyProfile`; both orders are alike."""
        require_open("delta", delta, 0.0, 1.0)
        return exact(gaussian.epsilon_at(self.parameter, delta))

    def delta(self, epsilon: float, direction: Direction = "worst") -> Certified:
        """See `PrivacyProfile`."""
        require_open("epsilon", epsilon, -math.inf, math.inf)
        return exact(gaussian.delta_at(self.parameter, epsilon))

    @overload
    def tradeoff(self, alpha: float, direction: Direction = "worst") -> Certified: ...
    @overload
    def tradeoff(self, alpha: Alphas, direction: Direction = "worst") -> list[Certified]: ...
    def tradeoff(self, alpha: float | Alphas, direction: Direction = "worst") -> Certified | list[Certified]:
        """See `PrivacyProfile`."""
        betas = gaussian.type_two_error(self.parameter, require_alphas(alpha))
        return like(alpha, [Certified(float(beta), float(beta), "lower") for beta in betas])

    @overload
    def power(self, alpha: float, direction: Direction = "worst") -> Certified: ...
    @overload
    def power(self, alpha: Alphas, direction: Direction = "worst") -> list[Certified]: ...
    def power(self, alpha: float | Alphas, direction: Direction = "worst") -> Certified | list[Certified]:
        """See `PrivacyProfile`."""
        return like(alpha, [exact(float(p)) for p in gaussian.power(self.parameter, require_alphas(alpha))])

    def advantage(self) -> Certified:
        """See `PrivacyProfile`."""
        return exact(gaussian.advantage(self.parameter))

    def mu(self, alpha_min: float = 1e-10) -> Certified:
        """See `PrivacyProfile`; here it does not depend on `alpha_min`."""
        require_open("alpha_min", alpha_min, 0.0, 0.5)
        return exact(self.parameter)

    def reconstruction(self, prior: float) -> Certified:
        """See `PrivacyProfile`: Phi(Phi^-1(prior) + mu)."""
        require_open("prior", prior, 0.0, 1.0)
        return self.power(prior)

    def group(self, size: int) -> "GaussianProfile":
        """See `PrivacyProfile`: mu grows with the size."""
        require_steps(size, "size")
        return GaussianProfile(size * self.parameter)

    def bounds(self, epsilons: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See `PrivacyProfile`."""
        deltas = np.exp(gaussian.log_delta(self.parameter, epsilons))
        return deltas, deltas

    def approximate_gdp(self, failure: float) -> float:
        """See `PrivacyProfile`; here no failure is needed."""
        return self.parameter

    def renyi(self, order: float) -> float:
        """Order times mu^2 / 2."""
        require_open("order", order, 1.0, math.inf)
        return order * self.parameter**2 / 2


class UnboundedProfile:
    """Profile of a job for which nothing is guaranteed, with the reason."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def epsilon(self, delta: float, direction: Direction = "worst") -> Certified:
        """Infinite."""
        require_open("delta", delta, 0.0, 1.0)
        return exact(math.inf)

    def delta(self, epsilon: float, direction: Direction = "worst") -> Certified:
        """One."""
        return exact(1.0)

    @overload
    def tradeoff(self, alpha: float, direction: Direction = "worst") -> Certified: ...
    @overload
    def tradeoff(self, alpha: Alphas, direction: Direction = "worst") -> list[Certified]: ...
    def tradeoff(self, alpha: float | Alphas, direction: Direction = "worst") -> Certified | list[Certified]:
        """Zero everywhere."""
        return like(alpha, [Certified(0.0, 0.0, "lower") for _ in require_alphas(alpha)])

    @overload
    def power(self, alpha: float, direction: Direction = "worst") -> Certified: ...
    @overload
    def power(self, alpha: Alphas, direction: Direction = "worst") -> list[Certified]: ...
    def power(self, alpha: float | Alphas, direction: Direction = "worst") -> Certified | list[Certified]:
        """One everywhere."""
        return like(alpha, [exact(1.0) for _ in require_alphas(alpha)])

    def advantage(self) -> Certified:
        """One."""
        return exact(1.0)

    def mu(self, alpha_min: float = 1e-10) -> Certified:
        """Infinite."""
        return exact(math.inf)

    def reconstruction(self, prior: float) -> Certified:
        """One."""
        return exact(1.0)

    def group(self, size: int) -> "UnboundedProfile":
        """The same."""
        require_steps(size, "size")
        return self

    def bounds(self, epsilons: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Ones."""
        return np.ones_like(epsilons), np.ones_like(epsilons)

    def approximate_gdp(self, failure: float) -> float:
        """Infinite."""
        return math.inf

    def renyi(self, order: float) -> float:
        """Infinite."""
        return math.inf


def like(alpha: float | Alphas, values: list[Certified]) -> Certified | list[Certified]:
    """One value for one alpha, a list for several."""
    return values[0] if np.ndim(alpha) == 0 else values


def exact(value: float) -> Certified:
    """A number that a closed form gives."""
    return Certified(value, value, "upper")
