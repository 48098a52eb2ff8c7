"""Closed forms of the Gaussian trade-off: one Gaussian of unit variance against one shifted by mu."""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, ndtr, ndtri

FloatArray = npt.NDArray[np.float64]


def log_delta(mu: FloatArray | float, epsilon: FloatArray | float) -> FloatArray:
    """Logarithm of delta(epsilon) of the mu-Gaussian mechanism.

    delta = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu) (Balle and Wang, 2018, Theorem 8), from
    logarithms of Phi so that it neither overflows nor cancels at large epsilon.
    """
    present = log_ndtr(mu / 2 - np.asarray(epsilon) / mu)
    gap = np.asarray(epsilon) + log_ndtr(-mu / 2 - np.asarray(epsilon) / mu) - present
    with np.errstate(divide="ignore"):
        return np.asarray(present + np.log(-np.expm1(np.minimum(gap, 0.0))))


def epsilon_at(mu: float, delta: float) -> float:
    """Smallest epsilon >= 0 with delta(epsilon) <= delta for the mu-Gaussian mechanism, rounded up."""
    if advantage(mu) <= delta:
        return 0.0
    # delta(epsilon) <= Phi(mu/2 - epsilon/mu) bounds the root from above.
    low, high, target = 0.0, mu * (mu / 2 + max(0.0, -float(ndtri(delta)))) + 1e-9, math.log(delta)
    while high - low > 1e-14 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if float(log_delta(mu, middle)) > target else (low, middle)
    return high * (1 + 1e-12 + 1e-14 / mu)  # log_delta loses digits as mu gets small


def delta_at(mu: float, epsilon: float) -> float:
    """delta(epsilon) at any real epsilon: delta(-e) = 1 - e^-e + e^-e delta(e)."""
    if epsilon < 0:
        return -math.expm1(epsilon) + math.exp(epsilon) * delta_at(mu, -epsilon)
    return math.exp(float(log_delta(mu, epsilon)))


def advantage(mu: float) -> float:
    """Membership advantage delta(0) = 2 Phi(mu/2) - 1 = erf(mu / sqrt(8))."""
    return math.erf(mu / math.sqrt(8))


def type_two_error(mu: float, alpha: FloatArray) -> FloatArray:
    """Trade-off curve f(alpha) = Phi(Phi^-1(1 - alpha) - mu) (Dong, Roth and Su, 2022, equation 6)."""
    return np.asarray(ndtr(-ndtri(alpha) - mu))


def power(mu: float, alpha: FloatArray) -> FloatArray:
    """1 - f(alpha) = Phi(Phi^-1(alpha) + mu)."""
    return np.asarray(ndtr(ndtri(alpha) + mu))
