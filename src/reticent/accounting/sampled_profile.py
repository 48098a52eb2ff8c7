"""Profile of a composition of Poisson-sampled Gaussian steps, from its discretised privacy loss."""

import math
from collections.abc import Sequence
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

from reticent.accounting.checks import require_open
from reticent.accounting.composition_fft import Repeated, compose, tilt_for, window
from reticent.accounting.curve import Curve
from reticent.accounting.loss_cells import LossPmf, discretise, loss_span, rounding_guard
from reticent.accounting.profiles import Alphas, checked_alphas, like
from reticent.accounting.renyi import epsilon_of_divergence, sampled_gaussian_divergence
from reticent.accounting.values import Certified

FloatArray = npt.NDArray[np.float64]

DEFAULT_GRID = 1e-4
MAX_CELLS = 2**20
MAX_WINDOW = 2**20
DECADES_PER_LEVEL = 8
LEVELS = 4
FALLBACK_ORDERS = np.unique(np.round(np.geomspace(2, 5000, 120)).astype(int))


class SampledSteps(NamedTuple):
    """Poisson-sampled Gaussian steps of one kind; a sampling rate of 1 is the plain Gaussian mechanism."""

    noise_multiplier: float
    sampling_rate: float
    steps: int


class SampledGaussianProfile:
    """Two-sided bounds for any composition of Poisson-sampled Gaussian steps.

    Upper side: the dominating pair of `loss_cells.discretise`, composed by `composition_fft.compose`, plus its
    numerical error. Lower side: the same masses are a coupling of the true loss L with a discretised L' in which
    L' - L lies in an interval as wide as the grid h and has a mean of at most m = h^2 (1 + h) / 8 + h r, where r is the
    mass that was raised further. By Hoeffding L' exceeds L by more than h sqrt(T/2 log(1/eta)) + T m with probability
    at most eta.

    The FFT is repeated under tilts that suit deltas of 1, 1e-8, 1e-16 and 1e-24, each when first needed. Beyond
    (delta < 1e-24 or so) epsilon falls back on the Rényi bound, which is looser and still a bound.
    """

    def __init__(self, parts: Sequence[SampledSteps]) -> None:
        self._parts = tuple(parts)
        self._grid, self._losses = _discretised(self._parts)
        self._level_bounds: dict[int, list[tuple[FloatArray, FloatArray]]] = {}
        self._curves: dict[tuple[int, ...], Curve] = {}

    def epsilon(self, delta: float) -> Certified:
        """See `PrivacyProfile`."""
        require_open("delta", delta, 0.0, 1.0)
        level = min(LEVELS - 1, round(-math.log10(delta) / DECADES_PER_LEVEL))
        lower, upper = self._curve((level,)).epsilon(delta)
        if math.isinf(upper):
            upper = max(0.0, min(epsilon_of_divergence(self.renyi(a), a, delta) for a in FALLBACK_ORDERS))
        return Certified(lower, upper, "upper")

    def delta(self, epsilon: float) -> Certified:
        """See `PrivacyProfile`."""
        require_open("epsilon", epsilon, -math.ulp(0.0), math.inf)
        for level in range(LEVELS):
            lower, upper = self._curve(tuple(range(level + 1))).delta(epsilon)
            if upper > 10.0 ** -(DECADES_PER_LEVEL * (level + 0.5)):
                break
        return Certified(lower, upper, "upper")

    @overload
    def tradeoff(self, alpha: float) -> Certified: ...
    @overload
    def tradeoff(self, alpha: Alphas) -> list[Certified]: ...
    def tradeoff(self, alpha: float | Alphas) -> Certified | list[Certified]:
        """See `PrivacyProfile`."""
        alphas = checked_alphas(alpha)
        curve = self._curve(_levels_down_to(alphas[alphas > 0].min(initial=1.0)))
        safe, _ = curve.best_test(alphas)
        loose = [curve.miss_from_above(float(value)) for value in alphas]
        return like(
            alpha,
            [Certified(float(low), max(float(low), high), "lower") for low, high in zip(safe, loose, strict=True)],
        )

    def advantage(self) -> Certified:
        """See `PrivacyProfile`."""
        return self.delta(0.0)

    def mu(self, alpha_min: float = 1e-10) -> Certified:
        """See `PrivacyProfile`."""
        require_open("alpha_min", alpha_min, 0.0, 0.5)
        return Certified(*self._curve(_levels_down_to(alpha_min)).mu(alpha_min), "upper")

    def approximate_gdp(self, failure: float) -> float:
        """See `PrivacyProfile`."""
        require_open("failure", failure, 0.0, 1.0)
        return self._curve(_levels_down_to(failure)).approximate_gdp(failure)

    def renyi(self, order: float) -> float:
        """See `PrivacyProfile`."""
        require_open("order", order, 1.0, math.inf)
        return sum(
            p.steps * sampled_gaussian_divergence(p.noise_multiplier, p.sampling_rate, order) for p in self._parts
        )

    def _curve(self, levels: tuple[int, ...]) -> Curve:
        if levels not in self._curves:
            for level in levels:
                if level not in self._level_bounds:
                    self._level_bounds[level] = [self._bounds(direction, level) for direction in (0, 1)]
            bounds = [self._level_bounds[level] for level in levels]
            length = max(len(upper) for pair in bounds for _, upper in pair)
            lowers = [np.maximum.reduce([_padded(lower, length, 0.0) for lower, _ in pair]) for pair in bounds]
            uppers = [np.maximum.reduce([_padded(upper, length, upper[-1]) for _, upper in pair]) for pair in bounds]
            lower = np.maximum.accumulate(np.maximum.reduce(lowers)[::-1])[::-1]
            upper = np.minimum.accumulate(np.minimum.reduce(uppers))
            self._curves[levels] = Curve(self._grid, np.minimum(lower, upper), upper)
        return self._curves[levels]

    def _bounds(self, direction: int, level: int) -> tuple[FloatArray, FloatArray]:
        """Lower and upper bounds on delta at 0, h, 2h, … for removal (0) or addition (1), from one tilt."""
        repeated = [Repeated(pair[direction], part.steps) for pair, part in zip(self._losses, self._parts, strict=True)]
        tilt = tilt_for(repeated, self._grid, -math.log(10.0) * DECADES_PER_LEVEL * level) if level else 0.0
        divergences = compose(repeated, self._grid, tilt)
        guard = sum(part.steps * rounding_guard(part.noise_multiplier) for part in self._parts)
        stretch = math.exp(divergences.relative + guard)
        upper = np.minimum(1.0, stretch * (divergences.value + divergences.error) + divergences.infinite)
        raised = self._grid * sum(part.steps * part.pmf.raised for part in repeated)
        lower = self._shifted(np.maximum(0.0, divergences.value - divergences.error) / stretch, raised + 2 * guard)
        return _from_zero(lower, divergences.first, 0.0, 0.0), _from_zero(upper, divergences.first, 1.0, upper[-1])

    def _shifted(self, delta: FloatArray, more: float) -> FloatArray:
        """delta'(epsilon + s) - eta, with eta a thousandth of delta' and s the Hoeffding shift for it, and more."""
        steps, grid = sum(part.steps for part in self._parts), self._grid
        eta = 1e-3 * delta
        with np.errstate(divide="ignore"):
            shift = grid * np.sqrt(steps / 2 * -np.log(eta)) + steps * grid**2 / 8 * (1 + grid) + more
        source = np.arange(len(delta)) + np.ceil(np.minimum(shift / grid, len(delta)))
        moved = np.where(source < len(delta), delta[np.minimum(source, len(delta) - 1).astype(int)], 0.0)
        return np.maximum(0.0, moved - eta - steps * 1e-29)


def _discretised(parts: Sequence[SampledSteps]) -> tuple[float, list[tuple[LossPmf, LossPmf]]]:
    """The grid, fine enough against the loss's spread and coarse enough for memory, and each part's loss masses."""
    steps = sum(part.steps for part in parts)
    spread = math.sqrt(sum(p.steps * (p.sampling_rate / p.noise_multiplier) ** 2 for p in parts) / steps)
    widest = max(loss_span(part.noise_multiplier, part.sampling_rate) for part in parts)
    grid = max(min(DEFAULT_GRID, spread / 5), widest / MAX_CELLS)
    while True:
        losses = [discretise(part.noise_multiplier, part.sampling_rate, grid) for part in parts]
        low, high = window([Repeated(pair[0], part.steps) for pair, part in zip(losses, parts, strict=True)], grid)
        if high - low <= MAX_WINDOW:
            return grid, losses
        grid *= 2 * (high - low) / MAX_WINDOW


def _levels_down_to(probability: float) -> tuple[int, ...]:
    return tuple(range(min(LEVELS, 1 + math.ceil(-math.log10(probability) / DECADES_PER_LEVEL))))


def _from_zero(values: FloatArray, first: int, before: float, after: float) -> FloatArray:
    """Values at losses 0, h, 2h, … (at least one) of an array that starts at loss first * h."""
    if first > 0:
        return np.concatenate([np.full(first, before), values])
    return values[-first:] if -first < len(values) else np.array([after])


def _padded(values: FloatArray, length: int, after: float) -> FloatArray:
    return np.concatenate([values, np.full(length - len(values), after)])
