"""Closed forms of the Gaussian trade-off: one Gaussian of unit variance against one shifted by mu."""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import erfcx, log_ndtr, ndtr, ndtri

FloatArray = npt.NDArray[np.float64]

LARGE = 5.0  # beyond, delta is close to 1 and nothing cancels
CLOSE = 0.3
ASYMPTOTIC = 50.0


def log_delta(mu: FloatArray | float, epsilon: FloatArray | float) -> FloatArray:
    """Logarithm of delta(epsilon) of the mu-Gaussian mechanism, mu > 0.

    delta = Phi(a) - e^epsilon Phi(a - mu) with a = mu/2 - epsilon/mu (Balle and Wang, 2018, Theorem 8). As
    phi(a) = e^epsilon phi(a - mu) this is phi(a) (m(a) - m(a - mu)), m = Phi / phi, which cancels less; where mu is
    small the difference is the integral of m' = 1 + x m(x).
    """
    mu, epsilon = np.broadcast_arrays(np.asarray(mu, dtype=np.float64), np.asarray(epsilon, dtype=np.float64))
    a = mu / 2 - epsilon / mu
    gap = np.empty_like(a)
    near, close = a < LARGE, mu < CLOSE * np.maximum(1.0, -a)
    for chosen, difference in (
        (near & close, _integrated),
        (near & ~close, lambda end, width: _mills(end) - _mills(end - width)),
    ):
        with np.errstate(divide="ignore"):
            gap[chosen] = np.log(difference(a[chosen], mu[chosen])) - a[chosen] ** 2 / 2 - math.log(2 * math.pi) / 2
    far = ~near
    present = log_ndtr(a[far])
    gap[far] = present + np.log1p(
        -np.exp(np.minimum(epsilon[far] + log_ndtr(-mu[far] / 2 - epsilon[far] / mu[far]) - present, -1e-300))
    )
    return gap


def _mills(x: FloatArray) -> FloatArray:
    """Phi(x) / phi(x)."""
    return np.asarray(math.sqrt(math.pi / 2) * erfcx(-x / math.sqrt(2)))


def _integrated(end: FloatArray, width: FloatArray) -> FloatArray:
    """Integral of m' up to `end`, by seven-point Gauss-Legendre quadrature; far out m' by its asymptotic series."""
    total = np.zeros_like(end)
    for node, weight in zip(*np.polynomial.legendre.leggauss(7), strict=True):
        x = end - width * (1 - node) / 2
        square = np.maximum(x, -1e150) ** -2.0 if len(x) else x
        series = square * (1 - square * (3 - square * (15 - square * (105 - square * 945))))
        total += weight * np.where(x < -ASYMPTOTIC, series, 1 + x * _mills(np.maximum(x, -ASYMPTOTIC)))
    return total * width / 2


def epsilon_at(mu: float, delta: float) -> float:
    """Smallest epsilon >= 0 with delta(epsilon) <= delta for the mu-Gaussian mechanism, rounded up."""
    if advantage(mu) <= delta:
        return 0.0
    # delta(epsilon) <= Phi(mu/2 - epsilon/mu) bounds the root from above.
    low, high, target = 0.0, mu * (mu / 2 + max(0.0, -float(ndtri(delta)))) + 1e-9, math.log(delta)
    while high - low > 1e-14 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if float(log_delta(mu, middle)) > target else (low, middle)
    return high * (1 + 1e-12)


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
