"""One release's privacy loss on a grid: a pair above the true one for upper bounds, a statistic for lower ones."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from reticent.accounting.loss import FloatArray, Loss, Masses, log

ROUGHLY = 4096
COARSE = 600.0  # a cell wider than this goes to its upper end whole: e^width would overflow


@dataclass(frozen=True)
class Pmf:
    """Logarithms of the masses at the integers first, first + 1, …, and the mass at infinity."""

    first: int
    log_probabilities: FloatArray
    infinite: float = 0.0

    @cached_property
    def probabilities(self) -> FloatArray:
        """The masses."""
        return np.exp(self.log_probabilities)

    @cached_property
    def variance(self) -> float:
        """Variance of the finite part."""
        steps = np.arange(len(self.probabilities), dtype=np.float64)
        return float(self.probabilities @ (steps - self.probabilities @ steps) ** 2)

    @cached_property
    def positions(self) -> FloatArray:
        """The integers."""
        return np.arange(self.first, self.first + len(self.log_probabilities), dtype=np.float64)

    @cached_property
    def rough(self) -> tuple[int, FloatArray, FloatArray]:
        """Size of some `ROUGHLY` blocks of integers, their middles, and the logarithms of their masses."""
        size = max(1, len(self.log_probabilities) // ROUGHLY)
        starts = np.arange(0, len(self.log_probabilities), size)
        ends = np.minimum(starts + size, len(self.log_probabilities)) - 1
        middles = np.asarray((self.positions[starts] + self.positions[ends]) / 2)
        return size, middles, np.logaddexp.reduceat(self.log_probabilities, starts)

    @cached_property
    def reversed(self) -> "Pmf":
        """The distribution of the negative."""
        return Pmf(1 - self.first - len(self.log_probabilities), self.log_probabilities[::-1], self.infinite)


@dataclass(frozen=True)
class Discretised:
    """`removal` and `addition` are distributions of losses, in grid steps, of pairs that dominate the true ones.

    `present` and `absent` are the true distributions of the number of the cell that the loss falls into; at infinity is
    what happens under one of them alone.
    """

    grid: float
    removal: Pmf
    addition: Pmf
    present: Pmf
    absent: Pmf


def discretise(loss: Loss, grid: float) -> Discretised:
    """Discretise one release on multiples of `grid`.

    Each cell kh <= L < (k+1)h keeps its masses under P and Q but moves them to its two ends: "connect the dots"
    (Doroshenko et al., 2022), hence a dominating pair. The masses are integrals over the cell, never second differences
    of delta, and the share of each cell's upper end is raised by the loss's rounding guard.
    """
    first, edges = _edges(loss, grid)
    cells = loss.masses(edges)
    below, above = _tail(loss, -math.inf, edges[0]), _tail(loss, edges[-1], math.inf)
    share, share_reversed = _upper_shares(cells, grid)
    guard = loss.guard / grid
    removal = _ends(cells.present, share, guard, below.present[0])
    addition = _ends(cells.absent[::-1], share_reversed[::-1], guard, above.absent[0])
    telling = _telling(above.present[0], above.absent[0]), _telling(below.absent[0], below.present[0])
    present, absent = cells.present.copy(), cells.absent.copy()
    present[0], absent[-1] = np.logaddexp(present[0], below.present[0]), np.logaddexp(absent[-1], above.absent[0])
    if not telling[0]:
        present[-1] = np.logaddexp(present[-1], above.present[0])
    if not telling[1]:
        absent[0] = np.logaddexp(absent[0], below.absent[0])
    count = len(edges) - 1
    return Discretised(
        grid,
        Pmf(first, removal, math.exp(above.present[0])),
        Pmf(-first - count, addition, math.exp(below.absent[0])),
        Pmf(first, present, telling[0]),
        Pmf(first, absent, telling[1]),
    )


def exact_deltas(loss: Loss, grid: float) -> tuple[int, FloatArray, FloatArray]:
    """The number of the first cell, then delta of removal and of addition of one release, both at the cells' edges.

    delta(a) = P(L >= a) - e^a Q(L >= a) is summed from the far end over terms that are all >= 0: cell by cell
    delta(a_k) = above_k + delta(a_{k+1}) + (e^(a_{k+1}) - e^(a_k)) Q(L >= a_{k+1}); addition from the other end with
    the roles of P and Q, and of `above` and `below`, exchanged. It is relative to addition's own epsilon = -a.
    """
    first, edges = _edges(loss, grid)
    cells = loss.masses(edges)
    below, above = _tail(loss, -math.inf, edges[0]), _tail(loss, edges[-1], math.inf)
    growth = math.log(math.expm1(grid)) if grid < COARSE else grid
    absent = np.logaddexp.accumulate(np.append(cells.absent, above.absent)[::-1])[::-1]
    steps = np.logaddexp(cells.above, growth + edges[:-1] + absent[1:])
    removal = np.logaddexp.accumulate(np.append(steps, above.above)[::-1])[::-1]
    present = np.logaddexp.accumulate(np.append(below.present, cells.present))
    steps = np.logaddexp(cells.below, growth + present[:-1]) - edges[1:]
    addition = np.logaddexp.accumulate(np.append(below.below - edges[0], steps))
    return first, np.exp(np.minimum(removal, 0.0)), np.exp(np.minimum(addition, 0.0))


def _edges(loss: Loss, grid: float) -> tuple[int, FloatArray]:
    low, high = loss.span
    first, last = _floor(low / grid), _floor(high / grid)
    count = last + 1 - first
    return first, np.arange(first, first + count + 1, dtype=np.float64) * grid


def _floor(cells: float) -> int:
    """Rounded down, but to a whole number other than 0 that it misses by rounding: atoms lie on the grid."""
    whole = round(cells)
    return whole if whole and abs(cells - whole) < 1e-9 * abs(whole) else math.floor(cells)


def _telling(mine: float, other: float) -> float:
    """Mass beyond the grid that the other distribution cannot have."""
    return math.exp(mine) if other == -math.inf else 0.0


def _tail(loss: Loss, low: float, high: float) -> Masses:
    return loss.masses(np.array([low, high]))


def _upper_shares(cells: Masses, grid: float) -> tuple[FloatArray, FloatArray]:
    """Share of P that goes to a cell's upper end, and share of Q that goes to its lower end, addition's upper one.

    Masses a and b at the ends with P = a + b and e^low Q = a + b e^-h have b = above / (1 - e^-h) and
    a = below / (e^h - 1). Under Q the lower end has e^h times as much for the same mass.
    """
    whole = np.ones_like(cells.present)
    if grid > COARSE:
        return whole, whole
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        odds = np.exp(cells.above - cells.below + grid)  # b / a = above / below * (e^h - 1) / (1 - e^-h)
        share = np.where(np.isfinite(odds), odds / (1 + odds), 1.0)
        odds_reversed = math.exp(grid) / odds
        share_reversed = np.where(np.isfinite(odds_reversed), odds_reversed / (1 + odds_reversed), 1.0)
    return share, share_reversed


def _ends(masses: FloatArray, upper_share: FloatArray, guard: float, bottom: float) -> FloatArray:
    """Logarithms of what lies on the cells' ends once each cell's mass has gone there, more of it up than it should."""
    share = np.minimum(1.0, upper_share + guard)
    probabilities = np.full(len(masses) + 1, -math.inf)
    probabilities[1:] = masses + log(share)
    probabilities[:-1] = np.logaddexp(probabilities[:-1], masses + log(1 - share))
    probabilities[0] = np.logaddexp(probabilities[0], bottom)
    return probabilities
