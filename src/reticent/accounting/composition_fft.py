"""Composition of privacy-loss distributions by FFT, with every numerical error bounded and added."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reticent.accounting.loss_cells import LossPmf

FloatArray = npt.NDArray[np.float64]

UNIT_ROUNDOFF = 2.0**-53
OUTSIDE = 1e-17  # tilted mass allowed outside the FFT window, on each side


@dataclass(frozen=True)
class Repeated:
    """One step's loss distribution, and how often it is composed."""

    pmf: LossPmf
    steps: int


@dataclass(frozen=True)
class Divergences:
    """delta of a composed loss distribution at losses (first + i) * grid, and the error it may have.

    The true value lies within `error` of `value` up to the factor e^(+-`relative`), for epsilons inside the window.
    """

    first: int
    value: FloatArray
    error: FloatArray
    relative: float
    infinite: float


def log_moment(parts: Sequence[Repeated], grid: float, order: float) -> float:
    """Cumulant generating function K(order) = sum_j T_j log E e^(order L_j) of the composed loss."""
    return sum(part.steps * _log_moment(part.pmf, grid, order) for part in parts)


def compose(parts: Sequence[Repeated], grid: float, tilt: float) -> Divergences:
    """delta(epsilon) = E(1 - e^(epsilon - L))_+ of the composed loss L, computed under masses tilted by e^(tilt * L).

    delta(epsilon) = e^(K(c) - c epsilon) E_c[e^(-c y) (1 - e^(-y)); y = L - epsilon > 0] with c = `tilt`: the error of
    the FFT becomes small against delta itself wherever the tilted losses are near epsilon. With u the unit roundoff,
    a transform of length N of masses that sum to 1 errs by at most e = 8 u log2 N in every output (Higham, 2002,
    section 24.1), hence the product of T_j-th powers by the difference of products, frequency by frequency; by Parseval
    and Cauchy-Schwarz a sum of outputs with weights of at most w errs by at most w times the 2-norm of those. Mass
    that wraps around is bounded by Chernoff.
    """
    from scipy import fft  # imported here, as `lfilter` below: accounting is to import in well under a second

    tilted = [Repeated(_tilt(part.pmf, grid, tilt), part.steps) for part in parts]
    low, high = window(tilted, grid)
    length = fft.next_fast_len(max(high - low + 1, *(len(part.pmf.probabilities) for part in tilted)), real=True)
    masses, noise = _power(tilted, length)
    origin = sum(part.steps * part.pmf.first for part in tilted)
    masses = np.roll(masses, origin - low)

    largest_weight = math.exp(tilt * math.log(tilt / (1 + tilt)) - math.log1p(tilt)) if tilt else 1.0
    summation = 8 * UNIT_ROUNDOFF * min(length, 1 / -math.expm1(-tilt * grid) if tilt else math.inf)
    above = _discounted_sum(masses, tilt * grid) - _discounted_sum(masses, (1 + tilt) * grid)
    exponent = log_moment(parts, grid, tilt) - tilt * grid * np.arange(low, low + length)
    usable = exponent < 600.0
    scale = np.where(usable, np.exp(np.minimum(exponent, 600.0)), math.inf)
    largest_loss = max(
        abs(loss) * grid for part in parts for loss in (part.pmf.first, part.pmf.first + len(part.pmf.probabilities))
    )
    steps = sum(part.steps for part in parts)
    return Divergences(
        first=low,
        value=np.multiply(scale, above, out=np.zeros_like(above), where=usable),
        error=scale * (largest_weight * (noise + 2 * OUTSIDE) + summation),
        relative=steps * 16 * UNIT_ROUNDOFF * (50 + tilt * largest_loss),
        infinite=-math.expm1(sum(part.steps * math.log1p(-part.pmf.infinite) for part in parts)),
    )


def window(parts: Sequence[Repeated], grid: float) -> tuple[int, int]:
    """Losses, in grid steps, outside which the composed loss has mass of at most `OUTSIDE` on each side (Chernoff)."""
    deviation = _deviation(parts, grid)
    orders = math.sqrt(-2 * math.log(OUTSIDE)) / deviation * 2.0 ** np.arange(-4, 3)
    lowest = sum(part.steps * part.pmf.first for part in parts)
    highest = sum(part.steps * (part.pmf.first + len(part.pmf.probabilities) - 1) for part in parts)
    tops = [(log_moment(parts, grid, order) - math.log(OUTSIDE)) / order for order in orders]
    bottoms = [-(log_moment(parts, grid, -order) - math.log(OUTSIDE)) / order for order in orders]
    return max(lowest, math.floor(max(bottoms) / grid) - 1), min(highest, math.ceil(min(tops) / grid) + 1)


def tilt_for(parts: Sequence[Repeated], grid: float, log_probability: float) -> float:
    """Tilt at which the rate c K'(c) - K(c) is about -`log_probability` (Cramér), by bisection; the rate grows with c.

    The tilted losses then lie where the upper tail of the composed loss has about that log probability.
    """
    deviation = _deviation(parts, grid)
    low, high = 0.0, math.inf
    normal = order = math.sqrt(-2 * log_probability) / deviation  # the answer for a normal loss
    for _ in range(60):
        moment = log_moment(parts, grid, order)
        slope = (log_moment(parts, grid, order * 1.0001) - moment) / (order * 0.0001)
        rate = (order * slope - moment) / -log_probability
        if 0.8 < rate < 1.25 or order > 1000 * normal:  # a loss bounded from above may never reach the rate
            break
        low, high = (order, high) if rate < 1 else (low, order)
        order = 2 * order if math.isinf(high) else math.sqrt(low * high) if low else high / 2
    return order


def _deviation(parts: Sequence[Repeated], grid: float) -> float:
    return grid * max(1.0, math.sqrt(sum(part.steps * part.pmf.variance for part in parts)))


def _losses(pmf: LossPmf, grid: float) -> FloatArray:
    return np.arange(pmf.first, pmf.first + len(pmf.probabilities), dtype=np.float64) * grid


def _log_moment(pmf: LossPmf, grid: float, order: float) -> float:
    exponents = order * _losses(pmf, grid)
    # expm1 keeps the cumulant of a nearly constant loss: log E e^x with E e^x - 1 tiny.
    if np.abs(exponents).max() < 1:
        return math.log1p(float(pmf.probabilities @ np.expm1(exponents)) + float(pmf.probabilities.sum() - 1))
    log_terms = exponents + pmf.log_probabilities
    top = float(log_terms.max())
    return top + math.log(float(np.exp(log_terms - top).sum()))


def _tilt(pmf: LossPmf, grid: float, tilt: float) -> LossPmf:
    exponents = tilt * _losses(pmf, grid) + pmf.log_probabilities - _log_moment(pmf, grid, tilt)
    return LossPmf(pmf.first, np.exp(exponents), 0.0)


def _power(parts: Sequence[Repeated], length: int) -> tuple[FloatArray, float]:
    """Circular convolution power, and a bound on the 2-norm of its error over the `length` frequencies."""
    from scipy import fft

    transform_error = 8 * UNIT_ROUNDOFF * math.log2(max(length, 2))
    log_size, log_bound, phase = (np.zeros(length // 2 + 1) for _ in range(3))
    relative = np.full(length // 2 + 1, 16 * UNIT_ROUNDOFF)
    for part in parts:
        spectrum = fft.rfft(part.pmf.probabilities, length)
        size = np.maximum(np.abs(spectrum), 1e-300)
        log_size += part.steps * np.log(size)
        phase += part.steps * np.angle(spectrum)
        log_bound += part.steps * np.log(size + transform_error)
        rounding = 8 * UNIT_ROUNDOFF * (4 + np.abs(np.log(size)))
        relative += part.steps * (transform_error / (size + transform_error) + rounding)
    magnitude = np.exp(log_size)
    masses = fft.irfft(magnitude * np.exp(1j * phase), length)
    error = np.exp(log_bound) * relative
    noise = math.sqrt(2) * (float(np.linalg.norm(error)) + transform_error * float(np.linalg.norm(magnitude)))
    return np.asarray(masses), noise


def _discounted_sum(values: FloatArray, rate: float) -> FloatArray:
    """sum over j >= i of values[j] e^(-rate (j - i)), for every i."""
    from scipy.signal import lfilter

    return np.asarray(lfilter([1.0], [1.0, -math.exp(-rate)], values[::-1])[::-1])
