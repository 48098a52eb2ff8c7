"""Certified bounds on a privacy profile at equally spaced epsilons, and the trade-off curve dual to them."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from reticent.accounting.gaussian import log_delta

FloatArray = npt.NDArray[np.float64]

MU_POINTS = 2**16


@dataclass(frozen=True)
class Curve:
    """lower[k] <= delta(k * grid) <= upper[k], both non-increasing; the worse of removal and addition.

    `upper` holds between grid points too if interpolated linearly in e^epsilon.
    """

    grid: float
    lower: FloatArray
    upper: FloatArray

    @property
    def epsilons(self) -> FloatArray:
        """The epsilons, from 0."""
        return np.arange(len(self.upper), dtype=np.float64) * self.grid

    def delta(self, epsilon: float) -> tuple[float, float]:
        """Bounds on delta at any epsilon >= 0."""
        index = int(epsilon / self.grid)
        if index + 1 >= len(self.upper):
            return 0.0, float(self.upper[-1])
        share = min(1.0, math.expm1(max(0.0, epsilon - index * self.grid)) / math.expm1(self.grid))
        upper = self.upper[index] + share * (self.upper[index + 1] - self.upper[index])
        return float(self.lower[math.ceil(epsilon / self.grid)]), float(upper)

    def epsilon(self, delta: float) -> tuple[float, float]:
        """Bounds on the smallest epsilon >= 0 with delta(epsilon) <= delta; infinite where the curve does not reach."""
        reached = len(self.lower) - int(np.searchsorted(self.lower[::-1], delta))
        lower = max(0, reached - 1) * self.grid
        index = len(self.upper) - int(np.searchsorted(self.upper[::-1], delta, side="right"))
        if index == len(self.upper):
            return lower, math.inf
        if index == 0:
            return lower, 0.0
        before, after = self.upper[index - 1], self.upper[index]
        share = (before - delta) / (before - after)
        epsilon = (index - 1) * self.grid + math.log1p(share * math.expm1(self.grid))
        # Rounded up past the round-off of other accountants on the same grid, so that a recomputation is never above.
        return lower, float(epsilon) * (1 + 1e-7)

    def _slopes(self) -> FloatArray:
        return np.exp(self.epsilons[: int(700 / self.grid)])

    def best_test(self, alpha: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Lower bound on the type II error f(alpha), upper bound on the power 1 - f(alpha); each accurate where small.

        f(alpha) = max over epsilon >= 0 of max(0, 1 - delta - e^epsilon alpha, e^-epsilon (1 - delta - alpha))
        (Dong, Roth and Su, 2022). Any epsilon gives a valid bound; the best one is found by bisection.
        """
        slopes = self._slopes()
        deltas = self.upper[: len(slopes)]
        steep = _least(deltas, slopes, np.diff(deltas) / np.diff(slopes), alpha, -alpha)
        heights = (deltas - 1) / slopes
        flat = -_least(heights, 1 / slopes, -np.diff(heights) / np.diff(1 / slopes), alpha, alpha)
        return np.maximum(0.0, np.maximum(1 - steep, flat)), np.minimum(1.0, np.minimum(steep, 1 - flat))

    def miss_from_above(self, alpha: float) -> float:
        """Upper bound on f(alpha): the same maximum, delta at the right end of each cell, e^epsilon at its left."""
        slopes = self._slopes()
        hits = 1 - np.append(self.lower[1 : len(slopes)], 0.0)
        bound = max(0.0, float((hits - slopes * alpha).max()), float(((hits - alpha) / slopes).max()))
        return min(1 - alpha, bound * (1 + 1e-12))

    def power_from_below(self, alpha: float) -> float:
        """Lower bound on 1 - f(alpha): the same minimum, delta at the right end of each cell, e^epsilon at its left."""
        slopes = self._slopes()
        deltas = np.append(self.lower[1 : len(slopes)], 0.0)
        left = float((deltas + slopes * alpha).min())
        right = float((1 - (1 - deltas - alpha) / slopes).min())
        return max(alpha, min(1.0, left, right))

    def mu(self, alpha_min: float) -> tuple[float, float]:
        """Bounds on the tight mu over all tests whose two errors are both at least alpha_min.

        mu = sup of Phi^-1(1 - alpha) - Phi^-1(f(alpha)) over alpha_min <= alpha <= f(alpha); by symmetry the other half
        of the curve adds nothing. Between neighbouring points the first term is taken at the left, f at the right.
        """
        z = np.linspace(float(ndtri(alpha_min)), 0.0, MU_POINTS)
        alpha = ndtr(z)
        miss, power = self.best_test(alpha)
        shifted = np.where(power < 0.5, ndtri(power), -ndtri(miss))
        half = int(np.searchsorted(z + shifted, 0.0, side="right"))  # where alpha <= f(alpha)
        bound = float((shifted[1:] - z[:-1])[: max(1, half)].max())
        tested = slice(0, max(1, half), max(1, half // 30))
        attained = max(float(ndtri(self.power_from_below(a))) + float(-ndtri(a)) for a in alpha[tested])
        return max(0.0, min(attained, bound)) if half else 0.0, max(0.0, bound)

    def approximate_gdp(self, failure: float) -> float:
        """Smallest mu with delta(e) <= delta_mu(e) + failure for all e, both orders; rounded up.

        delta at the left end of each grid cell is held against delta_mu at its right end.
        """
        if self.upper[-1] > failure:
            return math.inf
        needed = self.upper - failure
        cells = needed > 0
        if not cells.any():
            return 0.0
        log_needed, right = np.log(needed[cells]), (self.epsilons + self.grid)[cells]

        def covers(mu: float) -> bool:
            return bool((log_delta(mu, right) >= log_needed).all())

        high = 1.0
        while not covers(high):
            high *= 2
        low = high / 2
        while high > 1e-9 and covers(low):
            low, high = low / 2, low
        while high - low > 1e-7 * high:
            middle = (low + high) / 2
            low, high = (low, middle) if covers(middle) else (middle, high)
        return high


def _least(
    intercepts: FloatArray, slopes: FloatArray, takes_over: FloatArray, alpha: FloatArray, at: FloatArray
) -> FloatArray:
    """Near-minimum over lines of intercept + slope * alpha; line k + 1 takes over from line k `at` takes_over[k].

    Rounding leaves a few of these places out of order: they are put in order from either end, and the better result of
    the two is kept.
    """
    forwards = np.searchsorted(np.maximum.accumulate(takes_over), at)
    backwards = np.searchsorted(np.minimum.accumulate(takes_over[::-1])[::-1], at)
    found = [intercepts[best] + slopes[best] * alpha for best in (forwards, backwards)]
    return np.asarray(np.minimum(*found))
