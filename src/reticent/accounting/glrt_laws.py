"""The two laws behind `glrt`: chi^2_dof under absence, noncentral chi^2_dof(mu^2) under presence, mu > 0."""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, log_ndtr, logsumexp, ndtr, ndtri

from reticent.accounting import chi_squared
from reticent.accounting.roots import root

FloatArray = npt.NDArray[np.float64]


def power(mu: float, dof: int, rates: FloatArray) -> FloatArray:
    """S1(S0^-1(rate)), S survival functions; for dof 1, Phi(mu - c) + Phi(-mu - c) with c = -Phi^-1(rate / 2)."""
    if dof > 1:
        return chi_squared.above(chi_squared.exceeded(rates, dof), dof, mu**2)
    c = -ndtri(rates / 2)
    return np.asarray(ndtr(mu - c) + ndtr(-mu - c))


def delta(mu: float, dof: int, epsilon: float) -> float:
    """max over tests of P(present) - e^epsilon P(absent); the best test is {LR > e^epsilon}."""
    if epsilon <= -(mu**2) / 2:
        return -math.expm1(epsilon)
    limit = threshold(mu, dof, epsilon)
    absent, present = log_above(0.0, dof, limit), log_above(mu, dof, limit)
    return math.exp(present) * -math.expm1(min(0.0, epsilon + absent - present)) if present > -math.inf else 0.0


def delta_reverse(mu: float, dof: int, epsilon: float) -> float:
    """max over tests of P(absent) - e^epsilon P(present); the best test is {LR < e^-epsilon}, and LR >= e^(-mu^2/2)."""
    if epsilon >= mu**2 / 2:
        return 0.0
    limit = threshold(mu, dof, -epsilon)
    absent, present = _log_below(0.0, dof, limit), _log_below(mu, dof, limit)
    return math.exp(absent) * -math.expm1(min(0.0, epsilon + present - absent)) if absent > -math.inf else 0.0


def log_ratio(mu: float, dof: int, square: float) -> float:
    """log LR(t) = -mu^2/2 + log 0F1(; dof/2; mu^2 t/4), increasing in t; 0F1 as the sum of its positive terms."""
    b, z = dof / 2, mu**2 * square / 4
    if z == 0:
        return -(mu**2) / 2
    peak = (math.sqrt(b * b + 4 * z) - b) / 2
    k = np.arange(math.ceil(peak + 12 * math.sqrt(peak + 1) + 40))
    return float(logsumexp(k * math.log(z) - gammaln(k + 1) - gammaln(b + k))) + math.lgamma(b) - mu**2 / 2


def threshold(mu: float, dof: int, epsilon: float) -> float:
    """The t with log LR(t) = epsilon > -mu^2/2; for dof 1, sqrt(t) = arccosh(e^z) / mu with z = epsilon + mu^2/2."""
    if dof == 1:
        z = epsilon + mu**2 / 2
        return ((z + math.log1p(math.sqrt(-math.expm1(-2 * z)))) / mu) ** 2
    high = dof + mu**2
    while log_ratio(mu, dof, high) < epsilon:
        high *= 2
    return root(lambda t: log_ratio(mu, dof, t) - epsilon, 0.0, high, xtol=1e-13, rtol=1e-14)


def log_above(mu: float, dof: int, limit: float) -> float:
    """log P(T > limit), under absence for mu = 0."""
    if dof == 1:
        c = math.sqrt(limit)
        return float(np.logaddexp(log_ndtr(mu - c), log_ndtr(-mu - c)))
    tail = float(chi_squared.above(limit, dof, mu**2))
    return math.log(tail) if tail > 0 else -math.inf


def _log_below(mu: float, dof: int, limit: float) -> float:
    if dof == 1:
        high, low = log_ndtr(math.sqrt(limit) - mu), log_ndtr(-math.sqrt(limit) - mu)
        return float(high + np.log(-np.expm1(low - high))) if high > low else -math.inf
    tail = chi_squared.below(limit, dof, mu**2)
    return math.log(tail) if tail > 0 else -math.inf


def composed_power(mu: float, dof: int, sampling_rate: float, steps: int, rates: FloatArray) -> FloatArray:
    """Power of the best test on `steps` independent squared norms, each of which is shifted with `sampling_rate`.

    Its statistic, the sum of log(1 - q + q LR(T)), is put on a grid of 2^17 values and convolved by FFT.
    """
    losses, absent, present = _loss_cells(mu, dof, sampling_rate)
    low, high = math.inf, -math.inf
    for masses in (absent, present):
        mean = float(masses @ losses)
        spread = 12 * math.sqrt(steps * float(masses @ (losses - mean) ** 2)) + float(np.ptp(losses))
        low, high = min(low, steps * mean - spread), max(high, steps * mean + spread)
    size = 2**17
    width = (high - low) / size
    shift = math.floor((low - steps * losses[0]) / width)
    at = (losses - losses[0]) / width
    false, true = (
        np.cumsum(np.roll(_convolved(at, masses, size, steps), -shift)[::-1]) for masses in (absent, present)
    )
    return np.asarray(np.interp(rates, [0.0, *false], [0.0, *true]))


def _loss_cells(mu: float, dof: int, sampling_rate: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """One step's losses in increasing order, with their masses under absence and under presence."""
    smallest, largest = chi_squared.quantile(1e-17, dof, 0.0), float(chi_squared.exceeded(1e-17, dof, mu**2))
    squares = np.linspace(math.sqrt(smallest), math.sqrt(largest), 4097) ** 2
    ratios = np.array([log_ratio(mu, dof, float(square)) for square in squares])
    joined = np.logaddexp(np.log1p(-sampling_rate), ratios + math.log(sampling_rate)) if sampling_rate < 1 else ratios
    absent = -np.diff(chi_squared.above(squares, dof))
    shifted = -np.diff(chi_squared.above(squares, dof, mu**2))
    losses = (joined[1:] + joined[:-1]) / 2
    return losses, absent / absent.sum(), (1 - sampling_rate) * absent + sampling_rate * shifted


def _convolved(at: FloatArray, masses: FloatArray, size: int, steps: int) -> FloatArray:
    """The `steps`-fold convolution, modulo `size`, of masses at real grid positions, each shared between neighbours."""
    left = np.floor(at).astype(np.int64)
    share = at - left
    grid = np.bincount(left, masses * (1 - share), size) + np.bincount(left + 1, masses * share, size)
    composed: FloatArray = np.fft.irfft(np.fft.rfft(grid) ** steps, size)
    return np.maximum(composed, 0.0)
