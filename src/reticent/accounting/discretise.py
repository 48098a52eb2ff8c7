"""One release's privacy loss on a grid: a pair above the true one for upper bounds, a statistic for lower ones."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from reticent.accounting.loss import FloatArray, Loss, Masses

FAINT = 1e-290  # masses below lose relative accuracy; their cells go to the upper end whole, in both directions
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

    def reversed(self) -> "Pmf":
        """The distribution of the negative."""
        return Pmf(1 - self.first - len(self.log_probabilities), self.log_probabilities[::-1])


@dataclass(frozen=True)
class Discretised:
    """`removal` and `addition` are distributions of losses, in grid steps, of pairs that dominate the true ones.

    `present` and `absent` are the true distributions of the number of the cell that the loss falls into.
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
    removal = _ends(cells.present, np.minimum(1.0, share + guard), below.present[0])
    addition = _ends(cells.absent[::-1], np.minimum(1.0, share_reversed[::-1] + guard), above.absent[0])
    log_present, log_absent = _log_masses(cells, edges)
    for whole, low, high in ((log_present, below.present, above.present), (log_absent, below.absent, above.absent)):
        whole[0], whole[-1] = np.logaddexp(whole[0], _log(low[0])), np.logaddexp(whole[-1], _log(high[0]))
    count = len(edges) - 1
    return Discretised(
        grid,
        Pmf(first, _log(removal), float(above.present[0])),
        Pmf(-first - count, _log(addition), float(below.absent[0])),
        Pmf(first, log_present),
        Pmf(first, log_absent),
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
    log_present, log_absent = _log_masses(cells, edges)
    growth = math.log(math.expm1(grid)) if grid < COARSE else grid
    absent = np.logaddexp.accumulate(np.append(log_absent, _log(above.absent))[::-1])[::-1]
    steps = cells.above + np.exp(np.minimum(growth + edges[:-1] + absent[1:], 0.0))
    removal = np.append(steps, above.above)[::-1].cumsum()[::-1]
    present = np.logaddexp.accumulate(np.append(_log(below.present), log_present))
    steps = np.exp(_log(cells.below) - edges[1:]) + np.exp(np.minimum(growth + present[:-1] - edges[1:], 0.0))
    addition = np.append(np.exp(_log(below.below) - edges[0]), steps).cumsum()
    return first, removal, addition


def _edges(loss: Loss, grid: float) -> tuple[int, FloatArray]:
    low, high = loss.span
    first = math.floor(low / grid + 1e-9)
    count = max(1, math.floor(high / grid + 1e-9) + 1 - first)
    return first, np.arange(first, first + count + 1, dtype=np.float64) * grid


def _tail(loss: Loss, low: float, high: float) -> Masses:
    return loss.masses(np.array([low, high]))


def _log_masses(cells: Masses, edges: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Logarithms of P and Q; a mass too small for a float is replaced by what the other one allows at most."""
    log_present, log_absent = _log(cells.present), _log(cells.absent)
    return (
        np.where(cells.present < FAINT, np.maximum(log_present, log_absent + edges[1:]), log_present),
        np.where(cells.absent < FAINT, np.maximum(log_absent, log_present - edges[:-1]), log_absent),
    )


def _log(values: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(values))


def _upper_shares(cells: Masses, grid: float) -> tuple[FloatArray, FloatArray]:
    """Share of P that goes to a cell's upper end, and share of Q that goes to its lower end, addition's upper one.

    Masses a and b at the ends with P = a + b and e^low Q = a + b e^-h give b = above / (1 - e^-h), a = below / (e^h - 1).
    """
    whole = np.ones_like(cells.present)
    if grid > COARSE:
        return whole, whole
    upper, lower = cells.above / -math.expm1(-grid), cells.below / math.expm1(grid)
    both = upper + lower
    share = np.divide(upper, both, out=whole.copy(), where=both > 0)
    lower_share = np.divide(lower, both, out=whole.copy(), where=both > 0)
    share_reversed = np.divide(
        lower_share, lower_share + share * math.exp(-grid), out=whole.copy(), where=lower_share + share > 0
    )
    faint = np.minimum(cells.present, cells.absent) < FAINT
    share[faint] = share_reversed[faint] = 1.0
    return share, share_reversed


def _ends(masses: FloatArray, upper_share: FloatArray, bottom: float) -> FloatArray:
    probabilities = np.zeros(len(masses) + 1)
    probabilities[:-1] = masses * (1 - upper_share)
    probabilities[1:] += masses * upper_share
    probabilities[0] += bottom
    return probabilities
