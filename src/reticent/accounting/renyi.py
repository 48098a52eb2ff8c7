"""Rényi divergence of sampled Gaussians, and what it implies for epsilon and delta."""

import math

import numpy as np
from scipy.special import gammaln, logsumexp


def sampled_gaussian_divergence(noise_multiplier: float, sampling_rate: float, order: float) -> float:
    """Upper bound on the Rényi divergence of real order > 1 of one Poisson-sampled Gaussian step, both orders.

    Exact at whole orders; between them (a - 1) R_a is convex and replaced by its chord.

    R_a = log(sum_k C(a,k) (1-q)^(a-k) q^k e^(k(k-1)/(2 sigma^2))) / (a - 1) (Mironov, Talwar and Zhang, 2019, section
    3.3, who also show that removal dominates addition).
    """
    if sampling_rate == 1:
        return order / (2 * noise_multiplier**2)
    below = math.floor(order)
    fraction = order - below
    log_moment = (1 - fraction) * _log_moment(noise_multiplier, sampling_rate, below)
    if fraction:
        log_moment += fraction * _log_moment(noise_multiplier, sampling_rate, below + 1)
    # log-gamma of the order carries the rounding error; its size is order * log(order) units in the last place.
    return log_moment / (order - 1) * (1 + 1e-12 + 1e-14 * order)


def _log_moment(noise_multiplier: float, q: float, order: int) -> float:
    """log E_absent[(present/absent)^order] at a whole order; the terms k = 0 and 1 make 1 with what is subtracted.

    Summing only the excess e^(k(k-1)/(2 sigma^2)) - 1 keeps relative accuracy when the moment is close to 1.
    """
    if order < 2:
        return 0.0
    k = np.arange(2, order + 1)
    log_binomial = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
    exponent = k * (k - 1) / (2 * noise_multiplier**2)
    log_excess = exponent + np.log(-np.expm1(-exponent))
    log_terms = log_binomial + (order - k) * math.log1p(-q) + k * math.log(q) + log_excess
    return float(np.logaddexp(0.0, logsumexp(log_terms)))


def epsilon_of_divergence(divergence: float, order: float, delta: float) -> float:
    """epsilon at delta implied by a Rényi divergence at one order, may be negative.

    epsilon = R + log((a-1)/a) - (log delta + log a)/(a - 1) (Canonne, Kamath and Steinke, 2020, Proposition 12).
    """
    return divergence + math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)
