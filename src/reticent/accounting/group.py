"""Group privacy: what one person's trade-off curve says of several people together."""

import math

import numpy as np

from reticent.accounting.curve import Curve, Side
from reticent.accounting.loss import FloatArray
from reticent.accounting.loss_bounds import LEVELS, LossCurves

NODES = 2**12


class GroupCurves:
    """Curves of groups of `size` units: the power is amplified once for each member.

    An f-private mechanism is 1 - (1 - f)^(o size)-private for groups (Dong, Roth and Su, 2022, Theorem 2.14), o being
    composition of functions; exact for Gaussians, an upper bound for others. The adversary's tests are those on a
    single member.
    """

    def __init__(self, curves: "LossCurves | GroupCurves", size: int) -> None:
        self._curves, self._size = curves, size
        self._found: dict[tuple[int, ...], Curve] = {}

    def curve(self, levels: tuple[int, ...], direction: str) -> Curve:
        """The curve of the worse order, whichever is asked for."""
        if levels not in self._found:  # what is rare for the group is rarer still for each of its members
            single = self._curves.curve(tuple(range(min(LEVELS, levels[-1] + self._size))), "worst")
            alphas = np.concatenate([np.geomspace(1e-100, 1e-20, 1000), np.geomspace(1e-20, 1.0, 15_000)[1:]])
            power = alphas
            for _ in range(self._size):
                power = single.best_test(np.minimum(power, 1.0))[1]
            grid = max(single.steep.grid, self._size * len(single.steep.upper) * single.steep.grid / NODES)
            upper = _deltas(np.append(0.0, alphas), np.append(power, 1.0), grid)
            side = Side(grid, upper, single.steep.tests)
            self._found[levels] = Curve(side, side)
        return self._found[levels]


def _deltas(alphas: FloatArray, powers: FloatArray, grid: float) -> FloatArray:
    """sup of power - e^epsilon alpha on a grid of epsilons; between two alphas the power of the right one is taken."""
    epsilons = np.arange(NODES) * grid
    upper = np.zeros(NODES)
    for start in range(0, NODES, 64):
        slopes = np.exp(np.minimum(epsilons[start : start + 64], 700.0))
        upper[start : start + 64] = (powers - slopes[:, None] * alphas).max(axis=1)
    return np.asarray(np.minimum.accumulate(np.clip(upper, 0.0, 1.0) + math.ulp(1.0)).clip(max=1.0))
