"""Certified bounds on one order of a neighbouring pair, and the trade-off curve dual to them."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from reticent.accounting.loss import FloatArray

SMALLEST_LOG = -700.0
MAX_POINTS = 2**22
MU_POINTS = 2**13
MU_WIDTH = 1e-5
MAX_OPEN = 2**18


@dataclass(frozen=True)
class Tests:
    """Tests that the adversary has, by one statistic with ever lower thresholds.

    The logarithm of a test's false-positive rate is at most `log_alpha`, its true-positive rate at least `power`; both
    increase.
    """

    log_alpha: FloatArray
    power: FloatArray

    @cached_property
    def alpha(self) -> FloatArray:
        """False-positive rates, raised to what a float can tell from 0."""
        return np.exp(np.maximum(self.log_alpha, SMALLEST_LOG))

    def delta(self, epsilon: float) -> float:
        """Lower bound on delta(epsilon): the best power - e^epsilon alpha."""
        return float((self.power - np.exp(np.minimum(epsilon + self.log_alpha, 1.0))).max(initial=0.0))

    def deltas(self, epsilons: FloatArray) -> FloatArray:
        """Lower bounds on delta at many epsilons, by a well-chosen test each."""
        if not len(self.power):
            return np.zeros_like(epsilons)
        log_alpha, power = self.log_alpha[::-1], self.power[::-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = np.log(-np.diff(power)) - log_alpha[:-1] - np.log(-np.expm1(np.diff(log_alpha)))
        found = [
            power[best] - np.exp(np.minimum(epsilons + log_alpha[best], 1.0))
            for best in _places(np.nan_to_num(slopes, nan=-math.inf), epsilons)
        ]
        return np.maximum(0.0, np.maximum(*found))

    def epsilon(self, delta: float) -> float:
        """Lower bound on the smallest epsilon >= 0 with delta(epsilon) <= delta: no test may beat it."""
        useful = self.power > delta
        return float((np.log(self.power[useful] - delta) - self.log_alpha[useful]).max(initial=0.0))

    def mu(self, alpha_min: float) -> float:
        """Largest Phi^-1(power) - Phi^-1(alpha) among tests of errors >= alpha_min, mixed and worsened ones too."""
        mixed = ndtr(np.linspace(float(ndtri(alpha_min)), 0.0, 256))
        power = np.append(self.power, np.interp(mixed, *_with_ends(self)) * (1 - 1e-12))
        alpha = np.clip(np.append(self.alpha, mixed), alpha_min, 1 - alpha_min)
        return float((ndtri(np.minimum(power, 1 - alpha_min)) - ndtri(alpha)).max(initial=0.0))


@dataclass(frozen=True)
class Side:
    """What is known of one order of the pair: `upper[k]` >= delta(k * grid), non-increasing, and tests.

    `upper` holds between grid points too if interpolated linearly in e^epsilon.
    """

    grid: float
    upper: FloatArray
    tests: tuple[Tests, ...]

    @classmethod
    def worse(cls, *sides: "Side") -> "Side":
        """What holds for the worse of several, each with its own tests."""
        return cls._joint(sides, np.maximum)

    @classmethod
    def tighter(cls, *sides: "Side") -> "Side":
        """What several sets of bounds on the same order say together."""
        return cls._joint(sides, np.minimum)

    @classmethod
    def _joint(cls, sides: "tuple[Side, ...]", choose: np.ufunc) -> "Side":
        if len(sides) == 1:
            return sides[0]
        reach = max(len(side.upper) * side.grid for side in sides)
        grid = max(min(side.grid for side in sides), reach / MAX_POINTS)
        at = np.arange(math.ceil(reach / grid * (1 - 1e-12)), dtype=np.float64) * grid
        uppers = [side.uppers(at) for side in sides]
        tests = tuple(tests for side in sides for tests in side.tests)
        return cls(grid, np.minimum.accumulate(choose.reduce(uppers)), tests)

    @property
    def epsilons(self) -> FloatArray:
        """The epsilons of `upper`, from 0."""
        return np.arange(len(self.upper), dtype=np.float64) * self.grid

    def uppers(self, epsilons: FloatArray) -> FloatArray:
        """Upper bounds on delta at any epsilons >= 0, linear in e^epsilon between grid points, without forming it."""
        last = len(self.upper) - 1
        index = np.minimum((epsilons / self.grid * (1 - 1e-15)).astype(np.intp), last)
        start, end = self.upper[index], self.upper[np.minimum(index + 1, last)]
        if self.grid > 600:
            return np.asarray(start)
        share = np.expm1(np.clip(epsilons - index * self.grid, 0.0, self.grid)) / math.expm1(self.grid)
        return np.asarray(start + share * (end - start))

    def delta(self, epsilon: float) -> tuple[float, float]:
        """Bounds on delta at any epsilon >= 0."""
        upper = float(self.uppers(np.array([epsilon]))[0])
        lower = max(tests.delta(epsilon) for tests in self.tests) * (1 - 1e-12)
        return min(lower, upper), upper

    def epsilon(self, delta: float) -> tuple[float, float]:
        """Bounds on the smallest epsilon >= 0 with delta(epsilon) <= delta; infinite where `upper` does not reach."""
        lower = max(0.0, max(tests.epsilon(delta) for tests in self.tests) * (1 - 1e-12) - 1e-14)
        index = len(self.upper) - int(np.searchsorted(self.upper[::-1], delta, side="right"))
        if index == len(self.upper):
            return lower, math.inf
        if index == 0:
            return 0.0, 0.0
        before, after = self.upper[index - 1], self.upper[index]
        share = (before - delta) / (before - after)
        step = math.log1p(share * math.expm1(self.grid)) if self.grid < 600 else self.grid
        return lower, float((index - 1) * self.grid + step) * (1 + 1e-12)

    def lower(self, epsilons: FloatArray) -> FloatArray:
        """Lower bounds on delta at many epsilons >= 0."""
        return np.asarray(np.maximum.reduce([tests.deltas(epsilons) for tests in self.tests]) * (1 - 1e-12))


@dataclass(frozen=True)
class Curve:
    """The trade-off curve f; slopes steeper than -1 come from one order of the pair and flatter ones from the other.

    For the worse of both orders `steep` and `flat` are the same, and f is symmetric.
    """

    steep: Side
    flat: Side

    @cached_property
    def _lines(self) -> tuple[FloatArray, ...]:
        """Slopes e^epsilon with intercepts and the alphas at which the next takes over, steep then flat."""
        length = max(1, int(700 / self.steep.grid))
        slopes = np.exp(self.steep.epsilons[:length])
        steep = self.steep.upper[:length]
        flat_slopes = np.exp(-self.flat.epsilons[:length])
        heights = (self.flat.upper[:length] - 1) * flat_slopes
        with np.errstate(divide="ignore", invalid="ignore"):
            return (
                *(slopes, steep, np.nan_to_num(np.diff(steep) / np.diff(slopes))),
                *(flat_slopes, heights, np.nan_to_num(-np.diff(heights) / np.diff(flat_slopes))),
            )

    def best_test(self, alpha: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Lower bound on the type II error f(alpha), upper bound on the power 1 - f(alpha); each accurate where small.

        f(alpha) = max over epsilon >= 0 of max(0, 1 - delta - e^epsilon alpha, e^-epsilon (1 - delta - alpha))
        (Dong, Roth and Su, 2022). Any epsilon gives a valid bound; the best one is found by bisection.
        """
        slopes, steep, steep_next, flat_slopes, heights, flat_next = self._lines
        above = _least(steep, slopes, steep_next, alpha, -alpha)
        below = -_least(heights, flat_slopes, flat_next, alpha, alpha)
        return np.maximum(0.0, np.maximum(1 - above, below)) + 0.0, np.minimum(1.0, np.minimum(above, 1 - below))

    def miss_from_above(self, alpha: FloatArray) -> FloatArray:
        """Upper bound on f(alpha): what the tests of both sides achieve, mixed at random between neighbours."""
        misses = 1 - alpha
        for tests in self.steep.tests:
            misses = np.minimum(misses, 1 - np.interp(alpha, *_with_ends(tests)))
        for tests in self.flat.tests:
            alphas, powers = _with_ends(tests)
            misses = np.minimum(misses, np.interp(alpha, (1 - powers)[::-1], alphas[::-1]))
        if self.steep is self.flat:  # f is convex: between a test and its mirror image it lies below the straight line
            for tests in self.steep.tests:
                best = int(np.argmax(np.append(tests.power - tests.alpha, 0.0)))
                if best < len(tests.power):
                    one, other = sorted((float(tests.alpha[best]), 1 - float(tests.power[best])))
                    chord = np.where((alpha >= one) & (alpha <= other), one + other - alpha, 1.0)
                    misses = np.minimum(misses, chord)
        return np.minimum(misses * (1 + 1e-12) + 1e-300, 1 - alpha)

    def power_from_below(self, alpha: FloatArray) -> FloatArray:
        """Lower bound on 1 - f(alpha), accurate where small."""
        found = [np.interp(alpha, *_with_ends(tests)) for tests in self.steep.tests]
        return np.asarray(np.maximum(np.maximum.reduce(found) * (1 - 1e-12), 1 - self.miss_from_above(alpha)))

    def mu(self, alpha_min: float) -> tuple[float, float]:
        """Bounds on the tight mu over all attacks whose two errors are at least alpha_min; for a symmetric f.

        mu = sup of Phi^-1(1 - alpha) - Phi^-1(max(f(alpha), alpha_min)) over alpha >= alpha_min; by symmetry
        alpha <= 1/2 is enough. Between neighbouring points the first term is taken at the left, f at the right;
        intervals in which that leaves room for more than `MU_WIDTH` are divided.
        """
        lower = settled = max(0.0, max(tests.mu(alpha_min) for tests in self.steep.tests) - 1e-12)
        z = np.linspace(float(ndtri(alpha_min)), 0.0, MU_POINTS)
        left, right = z[:-1], z[1:]
        while True:
            bound = self._mu_between(left, right, alpha_min)
            open_ = bound > settled + MU_WIDTH
            if not open_.any() or open_.sum() > MAX_OPEN or float((right - left)[open_].max()) < MU_WIDTH / 4:
                return lower, max(settled, float(bound.max(initial=0.0)))
            settled = max(settled, float(bound[~open_].max(initial=0.0)))
            pieces = np.linspace(left[open_], right[open_], 9, axis=1)
            left, right = pieces[:, :-1].ravel(), pieces[:, 1:].ravel()

    def _mu_between(self, left: FloatArray, right: FloatArray, alpha_min: float) -> FloatArray:
        """Upper bounds on mu over attacks with Phi^-1(alpha) from left to right."""
        miss, power = self.best_test(ndtr(right))
        shifted = np.where(power < 0.5, ndtri(power), -ndtri(miss))
        return np.maximum(0.0, np.minimum(shifted, -ndtri(alpha_min)) - left)


def _with_ends(tests: Tests) -> tuple[FloatArray, FloatArray]:
    return np.concatenate([[0.0], tests.alpha, [1.0]]), np.concatenate([[0.0], tests.power, [1.0]])


def _places(takes_over: FloatArray, at: FloatArray) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Where `at` falls among the places at which line k + 1 takes over from line k.

    Rounding leaves a few of these places out of order: they are put in order from either end.
    """
    forwards = np.searchsorted(np.maximum.accumulate(takes_over), at)
    backwards = np.searchsorted(np.minimum.accumulate(takes_over[::-1])[::-1], at)
    return forwards, backwards


def _least(
    intercepts: FloatArray, slopes: FloatArray, takes_over: FloatArray, alpha: FloatArray, at: FloatArray
) -> FloatArray:
    """Near-minimum over lines of intercept + slope * alpha; line k + 1 takes over from line k `at` takes_over[k]."""
    found = [intercepts[best] + slopes[best] * alpha for best in _places(takes_over, at)]
    return np.asarray(np.minimum(*found))
