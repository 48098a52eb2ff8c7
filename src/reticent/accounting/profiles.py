"""Privacy profiles: every number that can be read off one mechanism's trade-off curve."""

import math
from collections.abc import Sequence
from typing import Protocol, overload

import numpy as np
import numpy.typing as npt

from reticent.accounting import gaussian
from reticent.accounting.checks import require_open
from reticent.accounting.values import Certified

Alphas = Sequence[float] | npt.NDArray[np.float64]


class PrivacyProfile(Protocol):
    """The privacy profile delta(epsilon) of a mechanism, the worse of removing and of adding one unit, and its dual.

    Every method raises `InputError` for an argument out of range.
    """

    def epsilon(self, delta: float) -> Certified:
        """Smallest epsilon >= 0 at which the mechanism is (epsilon, delta)-private, for 0 < delta < 1."""

    def delta(self, epsilon: float) -> Certified:
        """Smallest delta at which the mechanism is (epsilon, delta)-private, for epsilon >= 0."""

    @overload
    def tradeoff(self, alpha: float) -> Certified: ...
    @overload
    def tradeoff(self, alpha: Alphas) -> list[Certified]: ...
    def tradeoff(self, alpha: float | Alphas) -> Certified | list[Certified]:
        """The adversary's smallest type II error at type I error(s) alpha, 0 <= alpha <= 1; safe side: lower."""

    def advantage(self) -> Certified:
        """Membership advantage: max over alpha of 1 - alpha - f(alpha) = delta(0)."""

    def mu(self, alpha_min: float = 1e-10) -> Certified:
        """Smallest mu whose Gaussian trade-off lies below this one wherever both errors are at least alpha_min.

        Poisson sampling admits no moderate mu for all tests, so the range belongs to the statement.
        """

    def approximate_gdp(self, failure: float) -> float:
        """Smallest mu, rounded up, with delta(e) <= delta_mu(e) + failure for all e and both orders."""

    def renyi(self, order: float) -> float:
        """Upper bound on the Rényi divergence of real order > 1, both orders of the neighbouring pair."""


class GaussianProfile:
    """Profile of the mu-Gaussian mechanism, by closed forms (Balle and Wang, 2018; Dong, Roth and Su, 2022)."""

    def __init__(self, mu: float) -> None:
        self.parameter = mu

    def epsilon(self, delta: float) -> Certified:
        """See `PrivacyProfile`."""
        require_open("delta", delta, 0.0, 1.0)
        return _exact(gaussian.epsilon_at(self.parameter, delta))

    def delta(self, epsilon: float) -> Certified:
        """See `PrivacyProfile`."""
        require_open("epsilon", epsilon, -math.ulp(0.0), math.inf)
        return _exact(math.exp(float(gaussian.log_delta(self.parameter, epsilon))))

    @overload
    def tradeoff(self, alpha: float) -> Certified: ...
    @overload
    def tradeoff(self, alpha: Alphas) -> list[Certified]: ...
    def tradeoff(self, alpha: float | Alphas) -> Certified | list[Certified]:
        """See `PrivacyProfile`."""
        alphas = checked_alphas(alpha)
        betas = gaussian.type_two_error(self.parameter, alphas)
        return like(alpha, [Certified(float(beta), float(beta), "lower") for beta in betas])

    def advantage(self) -> Certified:
        """See `PrivacyProfile`."""
        return _exact(gaussian.advantage(self.parameter))

    def mu(self, alpha_min: float = 1e-10) -> Certified:
        """See `PrivacyProfile`; here it does not depend on `alpha_min`."""
        require_open("alpha_min", alpha_min, 0.0, 0.5)
        return _exact(self.parameter)

    def approximate_gdp(self, failure: float) -> float:
        """See `PrivacyProfile`; here no failure is needed."""
        return self.parameter

    def renyi(self, order: float) -> float:
        """Order times mu^2 / 2."""
        require_open("order", order, 1.0, math.inf)
        return order * self.parameter**2 / 2


class UnboundedProfile:
    """Profile of a job without privacy."""

    def epsilon(self, delta: float) -> Certified:
        """Infinite."""
        return _exact(math.inf)

    def delta(self, epsilon: float) -> Certified:
        """One."""
        return _exact(1.0)

    @overload
    def tradeoff(self, alpha: float) -> Certified: ...
    @overload
    def tradeoff(self, alpha: Alphas) -> list[Certified]: ...
    def tradeoff(self, alpha: float | Alphas) -> Certified | list[Certified]:
        """Zero everywhere."""
        return like(alpha, [Certified(0.0, 0.0, "lower") for _ in checked_alphas(alpha)])

    def advantage(self) -> Certified:
        """One."""
        return _exact(1.0)

    def mu(self, alpha_min: float = 1e-10) -> Certified:
        """Infinite."""
        return _exact(math.inf)

    def approximate_gdp(self, failure: float) -> float:
        """Infinite."""
        return math.inf

    def renyi(self, order: float) -> float:
        """Infinite."""
        return math.inf


def checked_alphas(alpha: float | Alphas) -> npt.NDArray[np.float64]:
    """Type I errors as a one-dimensional array; raises `InputError` unless all lie in [0, 1]."""
    alphas = np.atleast_1d(np.asarray(alpha, dtype=np.float64))
    for value in alphas[~((alphas >= 0) & (alphas <= 1))]:
        require_open("alpha", float(value), 0.0, 1.0)
    return alphas


def like(alpha: float | Alphas, values: list[Certified]) -> Certified | list[Certified]:
    """One value for one alpha, a list for several."""
    return values[0] if np.ndim(alpha) == 0 else values


def _exact(value: float) -> Certified:
    return Certified(value, value, "upper")
