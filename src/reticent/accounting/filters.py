"""Privacy filters: how much jobs chosen one after the other, each after seeing the last, may spend together."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from reticent.accounting.checks import require_open
from reticent.accounting.mechanisms import Mechanism
from reticent.accounting.profiles import GaussianProfile
from reticent.accounting.renyi import epsilon_of_divergence
from reticent.accounting.values import Certified

FAILURE_OF_ONE_JOB = 1e-8
FAILURE_OF_ALL_JOBS = 1e-6
ORDERS = tuple(range(2, 100)) + tuple(round(100 * 1.02**k) for k in range(350))


@dataclass(frozen=True)
class Charge:
    """What a job costs under a filter; charges add up. `failure` is used by the Gaussian filter alone."""

    amount: float
    failure: float = 0.0

    def __add__(self, other: "Charge") -> "Charge":
        return Charge(self.amount + other.amount, self.failure + other.failure)


class Filter(Protocol):
    """A proven stopping rule: as long as it admits the sum of charges, the budget holds for all jobs together."""

    def charge(self, mechanism: Mechanism) -> Charge:
        """What one job costs."""

    def admits(self, total: Charge) -> bool:
        """Whether jobs of this total stay within the budget."""

    def spent(self, total: Charge) -> str:
        """The total in the budget's own terms."""

    def describe(self) -> str:
        """One sentence for print."""


@dataclass(frozen=True)
class RenyiFilter:
    """Rényi filter for a budget of (epsilon, delta), at one order that depends on the budget alone.

    Jobs may be chosen adaptively as long as their Rényi divergences at a fixed order a sum to at most R (Feldman and
    Zrnic, 2021), with R = epsilon - log((a-1)/a) + (log delta + log a)/(a-1), which converts to
    (epsilon, delta) (Canonne, Kamath and Steinke, 2020, Proposition 12). The order is the whole number >= 2 at which a
    plain Gaussian could spend most, the maximum of R(a)/a; divergences of sampled Gaussians are exact there.
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        require_open("epsilon", self.epsilon, 0.0, math.inf)
        require_open("delta", self.delta, 0.0, 1.0)

    @cached_property
    def order(self) -> int:
        """The order all jobs are charged at."""
        return max(ORDERS, key=lambda order: (self.epsilon - epsilon_of_divergence(0.0, order, self.delta)) / order)

    @cached_property
    def limit(self) -> float:
        """The Rényi divergence that may be spent at this order."""
        return self.epsilon - epsilon_of_divergence(0.0, self.order, self.delta)

    def charge(self, mechanism: Mechanism) -> Charge:
        """The job's Rényi divergence at the filter's order."""
        return Charge(mechanism.profile().renyi(self.order))

    def admits(self, total: Charge) -> bool:
        """Whether the divergences sum to at most the limit."""
        return total.amount <= self.limit

    def spent(self, total: Charge) -> str:
        """The epsilon that the filter's order proves for the total."""
        if not total.amount:
            return "nothing"
        epsilon = max(0.0, epsilon_of_divergence(total.amount, self.order, self.delta))
        return f"epsilon {_up(epsilon)} at delta {self.delta:g}"

    def describe(self) -> str:
        """One sentence for print."""
        return (
            f"Rényi filter (Feldman and Zrnic, 2021): jobs chosen one after the other may spend a Rényi divergence of "
            f"{self.limit:.4g} of order {self.order} together, which keeps epsilon <= {self.epsilon:g} at delta "
            f"{self.delta:g}."
        )


@dataclass(frozen=True)
class GaussianFilter:
    """Gaussian-DP filter for a budget of mu.

    Adaptively chosen mu_i-Gaussian jobs with sum mu_i^2 <= mu^2 are mu-GDP together (Smith and Thakurta, 2022; Koskela,
    Tobaben and Honkela, 2023). A sampled job enters as approximately Gaussian: with mu_i such that
    delta(e) <= delta_{mu_i}(e) + eta for all e in both orders, every test on its output is matched, up to eta in type
    II error, by a test on the mu_i-Gaussian pair. For pairs of distributions, matching all tests is matching all
    decisions (Torgersen, 1970), so the output is within total variation eta of a randomisation of the mu_i-Gaussian.
    Replacing the jobs by these one after the other, each given the transcript so far, changes the whole transcript by
    at most the sum of the etas: the trade-off curve of all jobs lies above f_mu - sum of eta.
    """

    mu: float

    def __post_init__(self) -> None:
        require_open("mu", self.mu, 0.0, math.inf)

    def charge(self, mechanism: Mechanism) -> Charge:
        """mu_i squared, and the failure probability for a job that is not Gaussian."""
        profile = mechanism.profile()
        if isinstance(profile, GaussianProfile):
            return Charge(profile.parameter**2)
        return Charge(profile.approximate_gdp(FAILURE_OF_ONE_JOB) ** 2, FAILURE_OF_ONE_JOB)

    def admits(self, total: Charge) -> bool:
        """Whether the squares sum to at most mu^2 and the failures to at most 1e-6 (up to rounding)."""
        rounding = 1 + 1e-12
        return total.amount <= self.mu**2 * rounding and total.failure <= FAILURE_OF_ALL_JOBS * rounding

    def spent(self, total: Charge) -> str:
        """The mu of the total."""
        return f"mu {_up(math.sqrt(total.amount))}" if total.amount else "nothing"

    def describe(self) -> str:
        """One sentence for print."""
        return (
            f"Gaussian-DP filter (Koskela, Tobaben and Honkela, 2023): the squared mu of jobs chosen one after the "
            f"other sum to at most {self.mu:g}^2, sampled jobs entering as Gaussian up to a failure of "
            f"{FAILURE_OF_ONE_JOB:g} each and {FAILURE_OF_ALL_JOBS:g} in all."
        )


def _up(value: float) -> str:
    """Four significant digits, rounded up."""
    return str(Certified(value, value, "upper"))
