"""Central and noncentral chi-squared laws far into the lower tail, and for millions of degrees of freedom."""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import gammainc, gammaincc, gammainccinv, gammaincinv, gammaln, log_ndtr, logsumexp

from reticent.accounting.roots import root

FloatArray = npt.NDArray[np.float64]

_DIRECT = 1e-5  # below, SciPy stops the series of gammainc at 2000 terms, and ncx2.cdf can be 0 far too early
_VAST = 1e8  # noncentralities beyond which SciPy slows down and fails


# scipy.stats is imported in the functions: accounting is to import in well under a second


def above(x: FloatArray | float, dof: int, noncentrality: float = 0.0) -> FloatArray:
    """P(X > x)."""
    from scipy.stats import ncx2

    return np.asarray(
        ncx2.sf(x, dof, noncentrality) if noncentrality else gammaincc(dof / 2, np.asarray(x) / 2), dtype=np.float64
    )


def below(x: float, dof: int, noncentrality: float = 0.0) -> float:
    """P(X <= x)."""
    from scipy.stats import ncx2

    return float(ncx2.cdf(x, dof, noncentrality) if noncentrality else gammainc(dof / 2, x / 2))


def exceeded(rates: FloatArray | float, dof: int, noncentrality: float = 0.0) -> FloatArray:
    """The x with P(X > x) = rate."""
    from scipy.stats import ncx2

    return np.asarray(
        ncx2.isf(rates, dof, noncentrality) if noncentrality else 2 * gammainccinv(dof / 2, rates), dtype=np.float64
    )


def log_cdf(x: float, dof: int, noncentrality: float) -> float:
    """log P(X <= x), finite for every x > 0; relative error of P below 1e-6, and 1e-10 for dof below 10^4."""
    if noncentrality > _VAST:
        return _saddlepoint(x, dof, noncentrality)
    direct = below(x, dof, noncentrality)
    return math.log(direct) if direct > _DIRECT else _double_sum(x / 2, dof / 2, noncentrality / 2)


def quantile(p: float, dof: int, noncentrality: float) -> float:
    """The x with P(X <= x) = p, 0 < p < 1."""
    from scipy.stats import ncx2

    if p > _DIRECT and noncentrality <= _VAST:
        return float(ncx2.ppf(p, dof, noncentrality) if noncentrality else 2 * gammaincinv(dof / 2, p))

    def excess(log_x: float) -> float:
        return log_cdf(math.exp(log_x), dof, noncentrality) - math.log(p)

    low = high = math.log(dof + noncentrality)
    while excess(high) < 0:
        high += 0.5
    while excess(low) > 0:
        low -= 0.5
    return math.exp(root(excess, low, high, xtol=1e-15, rtol=1e-15))


def _double_sum(y: float, a: float, m: float) -> float:
    """Logarithm of a sum of positive terms, for y below the mean a + m of X / 2.

    With P(a, y) = sum_k y^(a+k) e^-y / Gamma(a+k+1): sum_j Poisson(j; m) P(a+j, y) = sum_k y^(a+k) e^-y / Gamma(a+k+1)
    P(Poisson(m) <= k). Away from the largest pair of terms, j = k with k (k + a) = m y, they fall off at least as fast
    as a Gaussian along j = k, and across as the powers of y / (a + k).
    """
    peak = 2 * m * y / (a + math.sqrt(a * a + 4 * m * y))
    decay = 40 / math.log((a + peak + 1) / y) if y < a + peak + 1 else math.inf
    width = 12 / math.sqrt(1 / (peak + 1) + 1 / (a + peak)) + min(decay, 12 * math.sqrt(a + peak)) + 60
    k = np.arange(max(0, math.floor(peak - width)), math.ceil(peak + width))
    terms = (a + k) * math.log(y) - y - gammaln(a + k + 1)
    if m:
        terms = terms + np.logaddexp.accumulate(k * math.log(m) - m - gammaln(k + 1))
    return float(logsumexp(terms))


def _saddlepoint(x: float, dof: int, noncentrality: float) -> float:
    """Lugannani and Rice (1980), near the mean Edgeworth's first term; relative error of order 1 / noncentrality.

    K(u) = -dof/2 log(1 - 2u) + noncentrality u / (1 - 2u); s = 1 - 2u solves x s^2 - dof s - noncentrality = 0.
    """
    variance = 2 * dof + 4 * noncentrality
    skewness = (8 * dof + 24 * noncentrality) / variance**1.5
    z = (x - dof - noncentrality) / math.sqrt(variance)
    if abs(z) < 0.1:
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return math.log(math.exp(float(log_ndtr(z))) - skewness / 6 * (z * z - 1) * density)
    s = (dof + math.sqrt(dof**2 + 4 * x * noncentrality)) / (2 * x)
    u = (1 - s) / 2
    w = math.copysign(math.sqrt(2 * max(0.0, u * x + dof / 2 * math.log(s) - noncentrality * u / s)), u)
    v = u * math.sqrt(2 * dof / s**2 + 4 * noncentrality / s**3)
    log_density = -w * w / 2 - math.log(2 * math.pi) / 2
    below = float(log_ndtr(w))
    return min(0.0, below + math.log1p((1 / w - 1 / v) * math.exp(log_density - below)))
