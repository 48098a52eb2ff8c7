"""The corridor between identifying a record among candidates and rebuilding it from scratch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scipy.special import ndtri

from reticent.accounting import chi_squared
from reticent.accounting.checks import require_open, require_steps
from reticent.accounting.from_scratch import FromScratchAttack, noise_for_reconstruction
from reticent.accounting.glrt import GLRTAdversary
from reticent.accounting.roots import root
from reticent.accounting.values import Estimate
from reticent.errors import InputError


class CorridorRow(NamedTuple):
    """Noise multipliers that hold an attack to probability gamma, at one MSE `eta`."""

    eta: float
    sigma_from_scratch: float
    sigma_shrinkage: float
    sigma_identification: float
    zeros_succeed: bool


@dataclass(frozen=True)
class RiskCorridor:
    """See `risk_corridor`. `eta_identification` and `eta_relaxed` are where the rising curve meets the two anchors."""

    gamma: float
    prior: float
    rows: list[CorridorRow]
    sigma_identification: float
    sigma_relaxed: Estimate
    eta_identification: float
    eta_relaxed: Estimate
    zeros_mse: float

    def reading(self) -> str:
        """What the corridor means, in plain language."""
        return (
            f"An attacker who could guess the record with probability {self.prior:.3g} finds it with probability at "
            f"most {self.gamma:.3g} if the noise multiplier is at least {self.sigma_identification:.4g}: this is "
            f"guaranteed. One who does not know the sign of its contribution is held by {self.sigma_relaxed.value:.4g} "
            f"(estimate). For errors (MSE) below {self.eta_identification:.4g}, less noise than the guarantee's holds "
            "the best unbiased attack from scratch, which knows no candidates: in this corridor the risk depends on "
            f"what the attacker knows. An image of zeros has MSE {self.zeros_mse:.4g} whatever the noise, so that no "
            "noise protects from larger errors."
        )


def risk_corridor(
    gamma: float,
    prior: float,
    etas: Sequence[float],
    n_dims: int,
    record_norm: float,
    sensitivity: float = 1.0,
    observations: int = 1,
) -> RiskCorridor:
    """Noise that holds reconstruction to probability `gamma`, by attacker (Riess et al., 2024, figure 2).

    Identification: an attacker who would guess right with probability `prior` < gamma; guaranteed for sigma =
    sqrt(T) Delta / (Phi^-1(gamma) - Phi^-1(prior)) (Kaissis et al., 2023, arXiv 2307.03928). The relaxed anchor is the
    `GLRTAdversary` of unknown sign, the worse of testing absence and presence. From scratch: see `FromScratchAttack`.
    `sensitivity` is in units of the clipping norm: 1 if a record is added or removed, 2 if one is replaced.
    """
    require_open("gamma", gamma, 0.0, 1.0)
    require_open("prior", prior, 0.0, 1.0)
    require_open("sensitivity", sensitivity, 0.0, math.inf)
    require_steps(observations, "observations")
    if gamma <= prior:
        raise InputError(f"gamma is {gamma!r}; give more than the prior {prior!r}, which guessing reaches")
    reach = sensitivity * math.sqrt(observations)
    identification = reach / float(ndtri(gamma) - ndtri(prior))
    relaxed = reach / _relaxed_mu(gamma, prior)
    rows = []
    for eta in etas:
        noise = noise_for_reconstruction(gamma, n_dims, record_norm, eta=eta, observations=observations)
        rows.append(CorridorRow(eta, noise.unbiased, noise.shrinkage, identification, eta >= noise.zeros_mse))
    crossings = [
        FromScratchAttack(n_dims, sigma, record_norm, observations=observations).mse_ppf(gamma)
        for sigma in (identification, relaxed)
    ]
    method = GLRTAdversary(1.0).threat_model
    zeros = record_norm**2 / n_dims
    return RiskCorridor(
        gamma,
        prior,
        rows,
        identification,
        Estimate(relaxed, method),
        crossings[0],
        Estimate(crossings[1], method),
        zeros,
    )


def _relaxed_mu(gamma: float, prior: float) -> float:
    """Smallest mu at which either chi-squared test of level `prior` has power `gamma`."""

    def excess(mu: float) -> float:
        absence = float(GLRTAdversary(mu).roc_values(prior))
        presence = chi_squared.below(chi_squared.quantile(prior, 1, mu**2), 1)
        return max(absence, presence) - gamma

    high = 1.0
    while excess(high) < 0:
        high *= 2
    return root(excess, 1e-6, high, xtol=1e-14, rtol=1e-14)
