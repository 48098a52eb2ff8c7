"""Bounds on a composition of privacy losses, from their discretisation."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reticent.accounting.composition_fft import Cumulants, Repeated, TooWideError, compose, deviation, tilt_for
from reticent.accounting.curve import MAX_POINTS, SMALLEST_LOG, Curve, Side, Tests
from reticent.accounting.discretise import Discretised, Pmf, discretise, exact_deltas
from reticent.accounting.loss import FloatArray, Loss

CELLS = 2**20  # at most for one release, and twice as many for a sum of them, at the accuracy below
USUAL_ACCURACY = 1e-5
DECADES_PER_LEVEL = 12
LEVELS = 4
MASS_GUARD = 1e-12  # relative accuracy of one release's masses, with a wide margin


class Release(NamedTuple):
    """A privacy loss, and how often it is incurred."""

    loss: Loss
    times: int = 1


class LossBounds:
    """Two-sided bounds on both orders of a composition of releases.

    Upper side: the dominating pairs of `discretise`, composed by `compose`, plus the numerical error. Lower side: the
    adversary who rejects when the numbers of the cells that the losses fall into sum to more than a threshold. That is
    a test of the true mechanism, whose two errors are tails of compositions of the true masses; it loses the variance
    h^2/12 a release against the best test, the upper side h^2/6: both bounds are of second order in the grid h.

    The FFT is repeated under tilts that suit deltas of 1, 1e-12, 1e-24 and 1e-36, each when first needed. A single
    release needs none: its deltas on the grid are exact.
    """

    def __init__(self, releases: Sequence[Release], accuracy: float) -> None:
        self._releases = tuple(releases)
        self._cells = round(CELLS * min(2.0, max(1 / 32, math.sqrt(USUAL_ACCURACY / accuracy))))
        self._grid = _grid(self._releases, accuracy, self._cells)
        self._discretised: dict[float, list[Discretised]] = {}
        self._levels: dict[int, tuple[Side, Side]] = {}

    def sides(self, level: int) -> tuple[Side, Side]:
        """Removal and addition, from the tilt of one level."""
        single = len(self._releases) == 1 and self._releases[0].times == 1
        if single:
            level = 0
        if level not in self._levels:
            self._levels[level] = self._exact() if single else (self._side(level, False), self._side(level, True))
        return self._levels[level]

    def _parts(self, grid: float) -> list[Discretised]:
        if grid not in self._discretised:
            self._discretised[grid] = [discretise(release.loss, grid) for release in self._releases]
        return self._discretised[grid]

    def _exact(self) -> tuple[Side, Side]:
        loss, part = self._releases[0].loss, self._parts(self._grid)[0]
        first, removal, addition = exact_deltas(loss, self._grid)
        sides = []
        for delta, start, last, (null, hit) in (
            (removal, first, part.removal.infinite, (part.absent, part.present)),
            (addition[::-1], 1 - first - len(addition), part.addition.infinite, _reversed(part)),
        ):
            grid, upper = _from_zero(self._grid, delta * math.exp(loss.guard + MASS_GUARD), start, last)
            certain = hit.infinite * (1 - MASS_GUARD)
            tests = _tests(_log_tail(null) + MASS_GUARD, np.exp(_log_tail(hit) - MASS_GUARD), certain)
            sides.append(Side(grid, upper, (tests,)))
        return sides[0], sides[1]

    def _side(self, level: int, reverse: bool) -> Side:
        """One order at one level, on the first grid that is coarse enough for memory."""
        grid = self._grid
        while True:
            try:
                return self._composed(level, reverse, grid)
            except TooWideError as error:
                grid = _divided(_lattice(self._releases), grid * 1.1 * error.factor)

    def _composed(self, level: int, reverse: bool, grid: float) -> Side:
        parts, times = self._parts(grid), [release.times for release in self._releases]
        uppers = [Repeated(part.addition if reverse else part.removal, n) for part, n in zip(parts, times, strict=True)]
        pairs = [_reversed(part) if reverse else (part.absent, part.present) for part in parts]
        nulls, hits = ([Repeated(pair[k], n) for pair, n in zip(pairs, times, strict=True)] for k in (0, 1))
        if _ever_infinite(uppers) >= 1:  # an outcome that the null cannot have is as good as certain
            return Side(grid, np.ones(1), (Tests(np.array([SMALLEST_LOG]), np.array([_ever_infinite(hits)])),))
        tilt = tilt_for(uppers, -math.log(10.0) * DECADES_PER_LEVEL * level) if level else 0.0
        divergence = compose(uppers, tilt, 2 * self._cells).divergence(grid)
        guard = sum(release.times * release.loss.guard for release in self._releases)
        upper = np.exp(np.minimum(divergence.log_upper + guard, 0.0)) + _ever_infinite(uppers)
        wide, upper = _from_zero(grid, upper, divergence.first, float(upper[-1]))
        return Side(wide, upper, (_attained(nulls, hits, tilt, grid, 2 * self._cells),))


class LossCurves:
    """`Curve`s at the levels that a question needs, where the worst of several bounds counts.

    `upper` are bounds on plans of which one is followed; the adversary's tests are taken from those on the `lower`
    plans if there are any.
    """

    def __init__(self, upper: Sequence[LossBounds], lower: Sequence[LossBounds] | None) -> None:
        self._upper, self._lower = tuple(upper), tuple(lower) if lower else None
        self._sides: dict[tuple[int, ...], tuple[Side, Side]] = {}
        self._curves: dict[tuple[tuple[int, ...], str], Curve] = {}

    def curve(self, levels: tuple[int, ...], direction: str) -> Curve:
        """The curve of one order, "remove" or "add", or of the worse of both, "worst"."""
        key = (levels, direction)
        if key not in self._curves:
            if levels not in self._sides:
                self._sides[levels] = (self._side(levels, 0), self._side(levels, 1))
            removal, addition = self._sides[levels]
            if direction == "worst":
                worst = Side.worse(removal, addition)
                self._curves[key] = Curve(worst, worst)
            else:
                self._curves[key] = Curve(removal, addition) if direction == "remove" else Curve(addition, removal)
        return self._curves[key]

    def _side(self, levels: tuple[int, ...], order: int) -> Side:
        def worst(of: Sequence[LossBounds]) -> Side:
            return Side.worse(*(Side.tighter(*(bounds.sides(level)[order] for level in levels)) for bounds in of))

        side = worst(self._upper)
        if self._lower is None:
            return side
        return Side(side.grid, side.upper, worst(self._lower).tests)


def levels_down_to(probability: float) -> tuple[int, ...]:
    """Levels that suit all probabilities from 1 down to this one."""
    return tuple(range(max(1, min(LEVELS, 1 + math.ceil((-math.log10(probability) - 5) / DECADES_PER_LEVEL)))))


def level_of(probability: float) -> int:
    """The level that suits one probability best."""
    return min(LEVELS - 1, round(-math.log10(probability) / DECADES_PER_LEVEL))


def _grid(releases: Sequence[Release], accuracy: float, cells: int) -> float:
    """Grid at which the added variance h^2/4 is `accuracy` of the loss's own, or coarser for a loss of a wide span."""
    times = sum(release.times for release in releases)
    spread = math.sqrt(sum(release.times * release.loss.spread**2 for release in releases) / times)
    widest = max(high - low for low, high in (release.loss.span for release in releases))
    return _divided(_lattice(releases), max(spread * math.sqrt(accuracy) * 2, widest / cells))


def _lattice(releases: Sequence[Release]) -> float | None:
    return min((release.loss.lattice for release in releases if release.loss.lattice), default=None)


def _divided(lattice: float | None, grid: float) -> float:
    """The grid, or one near it of which the lattice is a whole multiple."""
    if lattice is None or grid > lattice:
        return grid
    return lattice / math.ceil(lattice / grid * (1 - 1e-12))


def _attained(nulls: Sequence[Repeated], hits: Sequence[Repeated], tilt: float, grid: float, most: int) -> Tests:
    """Tests by the sum of cell numbers, from the tails of its distributions with the unit absent and present."""
    hit = compose(hits, tilt, most).tail()
    # Where cells are narrow Q is about e^-L P, and the tilt that brings it to the same place is larger by the grid.
    near = Cumulants(nulls).order(Cumulants(hits).mean(tilt), tilt + grid, max(0.5, deviation(hits) / 50))
    null = compose(nulls, max(0.0, near), most).tail()
    first, last = max(null.first, hit.first), min(null.first + len(null.value), hit.first + len(hit.value))
    if first >= last:
        return Tests(np.zeros(0), np.zeros(0))
    guard = MASS_GUARD * sum(part.times for part in nulls)
    log_alpha = null.log_upper[first - null.first : last - null.first]
    log_power = hit.log_lower[first - hit.first : last - hit.first]
    return _tests(log_alpha + guard, np.exp(np.minimum(log_power - guard, 0.0)), _ever_infinite(hits) * (1 - 1e-12))


def _reversed(part: Discretised) -> tuple[Pmf, Pmf]:
    return part.present.reversed, part.absent.reversed


def _log_tail(pmf: Pmf) -> FloatArray:
    return np.logaddexp.accumulate(pmf.log_probabilities[::-1])[::-1]


def _tests(log_alpha: FloatArray, power: FloatArray, certain: float) -> Tests:
    """Tests in order of alpha, useful ones only, all of which also reject what the null cannot have (`certain`).

    A larger bound on alpha, or a smaller one on power, stays true.
    """
    log_alpha, power = np.maximum.accumulate(log_alpha[::-1]), np.maximum.accumulate(power[::-1]) + certain
    kept = np.isfinite(log_alpha) & (log_alpha < 0) & (power > np.exp(np.minimum(log_alpha, 0.0)))
    log_alpha, power = log_alpha[kept], power[kept]
    if certain:
        least = min(SMALLEST_LOG, float(log_alpha.min(initial=0.0)))
        return Tests(np.append(least, log_alpha), np.append(certain, power))
    return Tests(log_alpha, power)


def _ever_infinite(parts: Sequence[Repeated]) -> float:
    if any(part.pmf.infinite >= 1 for part in parts):
        return 1.0
    return -math.expm1(sum(part.times * math.log1p(-part.pmf.infinite) for part in parts))


def _from_zero(grid: float, values: FloatArray, first: int, after: float) -> tuple[float, FloatArray]:
    """Non-increasing values at losses 0, h, 2h, … (at least one) of bounds on delta that start at loss first * grid.

    Losses that start far above 0 get a wider h: a selection of the points is as true.
    """
    if first <= 0:
        kept = values[-first:] if -first < len(values) else np.array([after])
        return grid, np.minimum.accumulate(np.minimum(kept, 1.0))
    every = -(-(first + len(values)) // MAX_POINTS)
    index = np.arange(0, first + len(values), every) - first
    # Before, the straight line in e^epsilon from delta = 1 at e^epsilon = 0: delta is convex.
    before = 1 - (1 - values[0]) * np.exp(np.minimum(index, 0) * grid)
    kept = np.where(index < 0, before, values[np.maximum(index, 0)])
    return grid * every, np.minimum.accumulate(np.minimum(kept, 1.0))
