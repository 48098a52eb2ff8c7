"""Composition of distributions on the integers by FFT, with every numerical error bounded."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reticent.accounting.discretise import Pmf
from reticent.accounting.loss import FloatArray

UNIT_ROUNDOFF = 2.0**-53
OUTSIDE = 1e-17  # tilted mass allowed outside the FFT window, on each side
STEEPEST = 30.0  # a weight e^-x has a relative rounding error of x units


class TooWideError(Exception):
    """The window would need `factor` times more cells than allowed."""

    def __init__(self, factor: float) -> None:
        super().__init__(factor)
        self.factor = factor


@dataclass(frozen=True)
class Repeated:
    """One release's distribution, and how often it is composed."""

    pmf: Pmf
    times: int


@dataclass(frozen=True)
class Bounded:
    """e^`log_scale` * `value` at the integers first, first + 1, …: the truth lies within e^`log_scale` * `error`, up to
    a factor e^(+-relative).
    """

    first: int
    log_scale: FloatArray
    value: FloatArray
    error: float
    relative: float

    @property
    def log_upper(self) -> FloatArray:
        """Logarithm of an upper bound."""
        return np.asarray(self.log_scale + np.log(np.maximum(self.value, 0.0) + self.error) + self.relative)

    @property
    def log_lower(self) -> FloatArray:
        """Logarithm of a lower bound."""
        with np.errstate(divide="ignore"):
            return np.asarray(self.log_scale + np.log(np.maximum(self.value - self.error, 0.0)) - self.relative)


@dataclass(frozen=True)
class Composed:
    """Distribution of a sum of independent integers, tilted by e^(`tilt` * sum) and normalised, on a window.

    `noise` bounds the sum of its errors, whatever weights in [0, 1] it is summed with; `log_scale` is K(tilt), the
    logarithm of what it was normalised by.
    """

    first: int
    masses: FloatArray
    tilt: float
    log_scale: float
    noise: float
    relative: float

    def tail(self) -> Bounded:
        """P(S >= k)."""
        return self._weighted(_discounted_sum(self.masses, self.tilt), 1.0, self.tilt)

    def divergence(self, grid: float) -> Bounded:
        """E(1 - e^(grid (k - S)))_+, the delta at loss k * grid if grid * S is a privacy loss."""
        above = _discounted_sum(self.masses, self.tilt) - _discounted_sum(self.masses, self.tilt + grid)
        order = self.tilt / grid
        # max over y of e^(-order y) (1 - e^-y)
        weight = math.exp(order * math.log(order / (1 + order)) - math.log1p(order)) if order else 1.0
        return self._weighted(above, weight, self.tilt)

    def _weighted(self, sums: FloatArray, weight: float, rate: float) -> Bounded:
        length = len(sums)
        terms = min(length, 1 / -math.expm1(-rate) if rate else math.inf)
        summation = 8 * UNIT_ROUNDOFF * (terms + STEEPEST)
        exponent = self.log_scale - self.tilt * np.arange(self.first, self.first + length, dtype=np.float64)
        return Bounded(self.first, exponent, sums, weight * self.noise + summation, self.relative)


def log_moment(parts: Sequence[Repeated], order: float) -> float:
    """Cumulant generating function K(order) = sum_j T_j log E e^(order S_j)."""
    return sum(part.times * _log_moment(part.pmf, order) for part in parts)


def compose(parts: Sequence[Repeated], tilt: float, most: int) -> Composed:
    """Distribution of the sum under masses tilted by e^(tilt * S), where tails near the tilted mean keep accuracy.

    With u the unit roundoff, a transform of length N of masses that sum to 1 errs by at most e = 8 u log2 N in every
    output (Higham, 2002, section 24.1), hence the product of T_j-th powers by the difference of products, frequency by
    frequency; by Parseval and Cauchy-Schwarz a sum of outputs with weights of at most w errs by at most w times the
    2-norm of those. Mass that wraps around is bounded by Chernoff.

    Raises:
        TooWideError: the window would need more than `most` cells.
    """
    from scipy import fft  # imported here: accounting is to import in well under a second

    tilted = [Repeated(_tilt(part.pmf, tilt), part.times) for part in parts]
    low, high = _window(parts, tilt, deviation(tilted))
    needed = max(high - low + 1, *(len(part.pmf.log_probabilities) for part in tilted))
    if needed > most:
        raise TooWideError(needed / most)
    length = fft.next_fast_len(needed, real=True)
    masses, noise = _power(tilted, length)
    origin = sum(part.times * part.pmf.first for part in tilted)
    largest = max(
        abs(position)
        for part in parts
        for position in (part.pmf.first, part.pmf.first + len(part.pmf.log_probabilities))
    )
    times = sum(part.times for part in parts)
    return Composed(
        first=low,
        masses=np.roll(masses, origin - low),
        tilt=tilt,
        log_scale=log_moment(parts, tilt),
        noise=noise + 2 * OUTSIDE,
        relative=times * 16 * UNIT_ROUNDOFF * (50 + tilt * largest),
    )


def _window(parts: Sequence[Repeated], tilt: float, width: float) -> tuple[int, int]:
    """Integers outside which the tilted sum, of deviation `width`, has at most `OUTSIDE` on each side (Chernoff)."""
    cumulants, here = Cumulants(parts), log_moment(parts, tilt)
    orders = math.sqrt(-2 * math.log(OUTSIDE)) / width * 2.0 ** np.arange(-4, 3)
    up = min(orders, key=lambda order: (cumulants.moment(tilt + order) - here - math.log(OUTSIDE)) / order)
    down = min(orders, key=lambda order: (cumulants.moment(tilt - order) - here - math.log(OUTSIDE)) / order)
    top = (log_moment(parts, tilt + up) - here - math.log(OUTSIDE)) / up
    bottom = -(log_moment(parts, tilt - down) - here - math.log(OUTSIDE)) / down
    lowest = sum(part.times * part.pmf.first for part in parts)
    highest = sum(part.times * (part.pmf.first + len(part.pmf.log_probabilities) - 1) for part in parts)
    return max(lowest, math.floor(bottom) - 1), min(highest, math.ceil(top) + 1)


class Cumulants:
    """Cumulant generating function of a sum and its derivative: good enough to look for orders with, and fast.

    Masses are moved to the middle of blocks where that changes little at the order in question.
    """

    def __init__(self, parts: Sequence[Repeated]) -> None:
        self._parts = parts

    def moment(self, order: float) -> float:
        """K(order)."""
        return math.fsum(times * _log_sum(order * at, masses) for times, at, masses in self._at(order))

    def mean(self, order: float) -> float:
        """K'(order), the mean of the sum tilted by e^(order S)."""
        total = 0.0
        for times, at, masses in self._at(order):
            log_weights = order * at + masses
            weights = np.exp(log_weights - log_weights.max())
            total += times * float(weights @ at) / float(weights.sum())
        return total

    def order(self, mean: float, guess: float, tolerance: float) -> float:
        """Order at which the tilted sum has about this mean, by bisection from a guess; the mean grows with it."""
        ends = []
        for sign in (-1, 1):
            end, step = guess, 1e-3 * abs(guess) + 1e-9
            while sign * (self.mean(end) - mean) < 0 and step < 1e9:
                end, step = end + sign * step, 4 * step
            ends.append(end)
        low, high = ends
        for _ in range(60):
            middle = (low + high) / 2
            found = self.mean(middle)
            if abs(found - mean) < tolerance:
                return middle
            low, high = (middle, high) if found < mean else (low, middle)
        return (low + high) / 2

    def order_of_rarity(self, log_probability: float, guess: float) -> float:
        """Order c at which the rate c K'(c) - K(c) is about -`log_probability` (Cramér); the rate grows with c.

        The tilted sum then lies where its upper tail has about that log probability.
        """
        low, high, order = 0.0, math.inf, guess
        for _ in range(60):
            rate = (order * self.mean(order) - self.moment(order)) / -log_probability
            if 0.8 < rate < 1.25 or order > 1000 * guess:  # a sum bounded from above may never reach the rate
                break
            low, high = (order, high) if rate < 1 else (low, order)
            order = 2 * order if math.isinf(high) else math.sqrt(low * high) if low else high / 2
        return order

    def _at(self, order: float) -> Iterator[tuple[int, FloatArray, FloatArray]]:
        for times, pmf in ((part.times, part.pmf) for part in self._parts):
            size, middles, masses = pmf.rough
            yield (times, middles, masses) if abs(order) * size < 1 else (times, pmf.positions, pmf.log_probabilities)


def tilt_for(parts: Sequence[Repeated], log_probability: float) -> float:
    """Tilt under which the sum lies where its upper tail has about that log probability."""
    normal = math.sqrt(-2 * log_probability) / deviation(parts)  # the answer for a normal sum
    return Cumulants(parts).order_of_rarity(log_probability, normal)


def deviation(parts: Sequence[Repeated]) -> float:
    """Standard deviation of the sum, at least 1."""
    return max(1.0, math.sqrt(sum(part.times * part.pmf.variance for part in parts)))


def _log_moment(pmf: Pmf, order: float) -> float:
    exponents = order * pmf.positions
    # expm1 keeps the cumulant of a nearly constant sum: log E e^x with E e^x - 1 tiny.
    if max(abs(exponents[0]), abs(exponents[-1])) < 1 and pmf.probabilities.sum() > 0.5:
        return math.log1p(float(pmf.probabilities @ np.expm1(exponents)) + float(pmf.probabilities.sum() - 1))
    return _log_sum(exponents, pmf.log_probabilities)


def _log_sum(exponents: FloatArray, log_probabilities: FloatArray) -> float:
    log_terms = exponents + log_probabilities
    top = float(log_terms.max())
    return top + math.log(float(np.exp(log_terms - top).sum()))


def _tilt(pmf: Pmf, tilt: float) -> Pmf:
    return Pmf(pmf.first, tilt * pmf.positions + pmf.log_probabilities - _log_moment(pmf, tilt))


def _power(parts: Sequence[Repeated], length: int) -> tuple[FloatArray, float]:
    """Circular convolution power, and a bound on the 2-norm of its error over the `length` frequencies."""
    from scipy import fft

    transform_error = 8 * UNIT_ROUNDOFF * math.log2(max(length, 2))
    log_size, log_bound, phase = (np.zeros(length // 2 + 1) for _ in range(3))
    relative = np.full(length // 2 + 1, 16 * UNIT_ROUNDOFF)
    for part in parts:
        spectrum = fft.rfft(part.pmf.probabilities, length)
        size = np.maximum(np.abs(spectrum), 1e-300)
        log = np.log(size)
        log_size += part.times * log
        phase += part.times * np.angle(spectrum)
        log_bound += part.times * (log + np.log1p(transform_error / size))
        rounding = 8 * UNIT_ROUNDOFF * (4 + np.abs(log))
        relative += part.times * (transform_error / (size + transform_error) + rounding)
    magnitude = np.exp(log_size)
    masses = fft.irfft(magnitude * np.exp(1j * phase), length)
    error = np.exp(log_bound) * relative
    noise = math.sqrt(2) * (float(np.linalg.norm(error)) + transform_error * float(np.linalg.norm(magnitude)))
    return np.asarray(masses), noise


def _discounted_sum(values: FloatArray, rate: float) -> FloatArray:
    """sum over j >= i of values[j] e^(-rate (j - i)), for every i, in blocks of weights within e^STEEPEST."""
    block = min(len(values), max(1, int(STEEPEST / rate)) if rate else len(values))
    padded = np.zeros(-(-len(values) // block) * block)
    padded[: len(values)] = values
    weights = np.exp(-rate * np.arange(block))
    sums = (padded.reshape(-1, block) * weights)[:, ::-1].cumsum(axis=1)[:, ::-1] / weights
    carry, whole = 0.0, math.exp(-rate * block)
    carries = np.zeros(len(sums))
    for row in range(len(sums) - 1, -1, -1):
        carries[row] = carry
        carry = float(sums[row, 0]) + whole * carry
    sums += np.outer(carries, np.exp(-rate * np.arange(block, 0, -1)))
    return np.asarray(sums.ravel()[: len(values)])
