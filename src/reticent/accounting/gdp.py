"""Gaussian DP as the statement: one mu over a stated range, what the summary loses, and whether it fits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

import numpy as np

from reticent.accounting import gaussian
from reticent.accounting.checks import require_open
from reticent.accounting.covering import covering_mu
from reticent.accounting.loss import FloatArray
from reticent.accounting.profiles import GaussianProfile, PrivacyProfile
from reticent.accounting.values import Certified

POINTS = 2**14
FITS = 0.01
"""Regret up to which mu is said to represent a mechanism (Gomez et al., 2025)."""


@dataclass(frozen=True)
class GdpStatement:
    """A mechanism summarised as "mu-GDP down to delta = eta".

    `mu`: smallest with delta(epsilon) <= max(delta_mu(epsilon), eta) for all epsilon >= 0, both orders. `regret`: the
    most by which the summary at `mu.upper` overstates a Bayes-optimal attacker's success, over all priors: the
    Delta-divergence to the Gaussian mechanism of that mu. `worst_epsilon`: where regret is largest.
    """

    mu: Certified
    eta: float
    regret: Certified
    worst_epsilon: float

    @property
    def fits(self) -> bool:
        """Whether mu represents the mechanism well; if not, report the privacy profile instead."""
        return self.regret.upper <= FITS

    def sentence(self, neighbouring_relation: str) -> str:
        """The statement as a sentence for a paper, mu rounded up."""
        if math.isinf(self.mu.upper):
            return f"No finite mu covers the mechanism down to delta = {self.eta:g}; report its privacy profile."
        verdict = (
            "represents it well" if self.fits else "does NOT represent it well: report the privacy profile as well"
        )
        mu, eta = Decimal(self.mu.upper).quantize(Decimal("0.001"), rounding=ROUND_CEILING).normalize(), f"{self.eta:g}"
        eta = eta if float(eta) >= self.eta else _up(self.eta)
        return (
            f"The mechanism is {mu:f}-GDP down to delta = {eta}: delta(epsilon) <= max(delta_mu(epsilon), {eta}) for "
            f"every epsilon >= 0 ({neighbouring_relation}). This single number {verdict} "
            f"(it overstates a Bayes-optimal attacker's success by at most {_up(self.regret.upper)})."
        )


def gdp_statement(profile: PrivacyProfile, eta: float = 1e-10) -> GdpStatement:
    """The tight mu of a profile down to delta = `eta`, with its regret.

    Raises:
        InputError: eta is not between 0 and 1.
    """
    require_open("eta", eta, 0.0, 1.0)
    if isinstance(profile, GaussianProfile):
        return GdpStatement(profile.mu(), eta, Certified(0.0, 0.0, "upper"), 0.0)
    reach = profile.epsilon(eta).upper
    if math.isinf(reach):
        return GdpStatement(Certified(0.0, math.inf, "upper"), eta, Certified(0.0, 0.5, "upper"), 0.0)
    epsilons = np.linspace(0.0, max(reach, 1e-9), POINTS)
    lower, upper = profile.bounds(epsilons)
    stated = slice(0, int((upper > eta).sum()) + 1)
    mu = covering_mu(epsilons[stated], upper[stated])
    attained = lower > eta
    least = float(mu_at(epsilons[attained], lower[attained]).max(initial=0.0))
    summary = np.exp(gaussian.log_delta(mu, epsilons)) if mu else np.zeros_like(epsilons)
    scale = 1 + np.exp(np.minimum(epsilons, 700.0))
    losses = (summary - np.append(lower[1:], 0.0)) / scale
    worst = int(np.argmax(losses))
    regret = Certified(max(0.0, float(((summary - upper) / scale).max())), max(0.0, float(losses[worst])), "upper")
    return GdpStatement(Certified(min(least, mu), mu, "upper"), eta, regret, float(epsilons[worst]))


def mu_at(epsilons: FloatArray, deltas: FloatArray) -> FloatArray:
    """The mu with delta_mu(epsilon) = delta at each pair, rounded down; delta grows with mu."""
    low, high = np.full_like(epsilons, 1e-9), np.full_like(epsilons, 1e-9)
    target = np.log(np.maximum(deltas, 1e-300))
    while (short := gaussian.log_delta(high, epsilons) < target).any():
        low, high = np.where(short, high, low), np.where(short, high * 2, high)
    for _ in range(50):
        middle = (low + high) / 2
        below = gaussian.log_delta(middle, epsilons) <= target
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return low


def mu_of_pure_dp(epsilon: float) -> float:
    """Tight mu of epsilon-DP, that of randomised response: 2 Phi^-1(e^epsilon / (1 + e^epsilon))."""
    from scipy.special import ndtri

    require_open("epsilon", epsilon, 0.0, math.inf)
    return -2 * float(ndtri(1 / (1 + math.exp(min(epsilon, 700.0)))))


def mu_of_laplace(noise_multiplier: float) -> float:
    """Tight mu of one Laplace release of scale b in units of the sensitivity: -2 Phi^-1(e^(-1/(2b)) / 2)."""
    from scipy.special import ndtri

    require_open("noise_multiplier", noise_multiplier, 0.0, math.inf)
    return -2 * float(ndtri(math.exp(-1 / (2 * noise_multiplier)) / 2))


def _up(value: float) -> str:
    return str(Certified(value, value, "upper"))
