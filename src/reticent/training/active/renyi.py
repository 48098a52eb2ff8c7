"""A quick Rényi accountant to look for plans with; what is promised of a plan comes from the certified accounting."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

ORDERS = np.concatenate([np.arange(1.1, 11.0, 0.1), np.arange(12.0, 64.0)])
"""The orders that public Rényi accountants take by default."""
_REACH, _STEPS_PER_DEVIATION = 10.0, 4.0

Divergences = NDArray[np.float64]
"""Rényi divergences at `ORDERS`; those of mechanisms on the same subject add up."""

NOTHING: Divergences = np.zeros_like(ORDERS)


@lru_cache(maxsize=2**15)
def gaussian_step(noise_multiplier: float, sampling_rate: float) -> Divergences:
    r"""Of one step of DP-SGD: log E (1 - q + q e^((2x - 1) / (2 sigma^2)))^a / (a - 1) over x ~ N(0, sigma^2).

    Mironov, Talwar and Zhang (2019), section 3. By the trapezoidal rule, whose error for this integrand is below
    rounding at four points a standard deviation.
    """
    sigma, top = noise_multiplier, float(ORDERS[-1])
    x = np.arange(-_REACH * sigma, top + _REACH * sigma, sigma / _STEPS_PER_DEVIATION)
    exponent = (2 * x - 1) / (2 * sigma**2)
    with np.errstate(divide="ignore"):
        log_ratio = np.logaddexp(np.log1p(-sampling_rate), np.log(sampling_rate) + exponent)
    log_density = -((x / sigma) ** 2) / 2 - math.log(_STEPS_PER_DEVIATION * math.sqrt(2 * math.pi))
    moments = logsumexp(ORDERS[:, None] * log_ratio + log_density, axis=1)
    return np.asarray(np.maximum(moments, 0.0) / (ORDERS - 1))


def laplace(epsilon: float) -> Divergences:
    """Of one release with Laplace noise of scale range / epsilon (Mironov, 2017, Proposition 6); 0 of none."""
    if not epsilon:
        return NOTHING
    share = ORDERS / (2 * ORDERS - 1)
    return np.asarray(
        np.logaddexp(np.log(share) + (ORDERS - 1) * epsilon, np.log1p(-share) - ORDERS * epsilon) / (ORDERS - 1)
    )


def epsilon_of(divergences: Divergences, delta: float) -> float:
    """The smallest epsilon over the orders (Canonne, Kamath and Steinke, 2020, Proposition 12)."""
    found = divergences + np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    return max(0.0, float(found.min()))
