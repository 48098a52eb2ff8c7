"""Weight gradient of a convolution with kernels of three, by Winograd's minimal filtering: fewer multiplications."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor

TAPS, _POINTS = 3, 4


class MinimalFiltering:
    r"""Correlates one record's inputs with its output gradients, two outputs a tile and axis: F(3, 2).

    Along one axis, for a tile of inputs d and output gradients g, the three taps
    :math:`y_k = g_0 d_k + g_1 d_{k+1}` take four multiplications instead of six (Winograd, *Arithmetic Complexity of
    Computations*, 1980):

    .. math::
        m_0 = g_0 (d_0 - d_2), \quad 2 m_1 = (g_0 + g_1)(d_1 + d_2), \quad 2 m_2 = (g_0 - g_1)(d_2 - d_1), \quad
        m_3 = g_1 (d_3 - d_1), \\
        y = (m_0 + m_1 + m_2, \; m_1 - m_2, \; m_1 + m_2 + m_3).

    Products of several axes are nested. Tiles and channels add up before the last line, as products of matrices. Holds
    the memory of one record, so that it stays in the cache; not for several threads at once.

    Args:
        x: a record's inputs (C, *S), for their shape, dtype and device.
        g: its output gradients (p, *O) with O = S + 2 padding - 2.
        padding: zeros on both sides of each axis.
    """

    def __init__(self, x: Tensor, g: Tensor, padding: Sequence[int]) -> None:
        axes, outer = len(padding), g.shape[1:]
        tiles = [(size + 1) // 2 for size in outer]
        self._x = x.new_zeros(*(2 * count + 2 for count in tiles), len(x))
        self._g = g.new_zeros(*(2 * count for count in tiles), len(g))
        inside = [slice(pad, pad + size) for pad, size in zip(padding, x.shape[1:], strict=True)]
        self._x_inside, self._g_inside = self._x[tuple(inside)], self._g[tuple(map(slice, outer))]
        self._x_turned, self._g_turned = x.new_empty(prod(x.shape[1:]), len(x)), g.new_empty(prod(outer), len(g))
        self._x_points, self._g_points = (_stages(t, tiles) for t in (self._x, self._g))
        shapes = [(TAPS,) * done + (_POINTS,) * (axes - done) for done in range(axes)]
        self._taps = [x.new_empty(*shape, len(g), len(x)) for shape in shapes]

    def __call__(self, xs: Tensor, gs: Tensor, out: Tensor) -> None:
        """Sum of the rows' gradients for rows (n, C, *S) and (n, p, *O), into `out` (3, ..., 3, p, C), last axis first.

        `out` must not overlap with the rows.
        """
        products = self._taps[0].flatten(0, -3)
        for row, (x, g) in enumerate(zip(xs, gs, strict=True)):
            _channels_behind(x, self._x_turned, self._x_inside)
            _channels_behind(g, self._g_turned, self._g_inside)
            for axis, (before, after) in enumerate(pairwise(self._x_points)):
                _spread_inputs(before.movedim(2 * axis, 0), after.movedim(2 * axis + 1, 1))
            for axis, (before, after) in enumerate(pairwise(self._g_points)):
                _spread_gradients(before.movedim(2 * axis, 0), after.movedim(2 * axis + 1, 1))
            left, right = (t.view(len(products), -1, t.shape[-1]) for t in (self._g_points[-1], self._x_points[-1]))
            if row == 0:
                torch.bmm(left.mT, right, out=products)
            else:
                products.baddbmm_(left.mT, right)
        for axis, (before, after) in enumerate(pairwise([*self._taps, out])):
            _gather_taps(before.movedim(axis, 0), after.movedim(axis, 0))


def _stages(signal: Tensor, tiles: Sequence[int]) -> list[Tensor]:
    """Memory for a signal (*S, C) with one axis after the other spread to tiles: (4, ..., 4, tiles, *rest, C)."""
    stages = [signal]
    for axis in range(len(tiles)):
        rest = signal.shape[axis + 1 :]
        stages.append(signal.new_empty(*(_POINTS,) * (axis + 1), *tiles[: axis + 1], *rest))
    return stages


def _channels_behind(x: Tensor, turned: Tensor, into: Tensor) -> None:
    """Copy (C, *S) to (*S, C); as matrices first, which the library turns in blocks."""
    if x.stride(0) != 1:
        x = turned.copy_(x.flatten(1).mT).view(into.shape).movedim(-1, 0)
    into.copy_(x.movedim(0, -1))


def _spread_inputs(x: Tensor, out: Tensor) -> None:
    """Tiles of four inputs that overlap by two, (2 t + 2, ...) to (4, t, ...)."""
    a, b, c, d = (x[first : len(x) - 3 + first : 2] for first in range(_POINTS))
    torch.sub(a, c, out=out[0])
    torch.add(b, c, out=out[1])
    torch.sub(c, b, out=out[2])
    torch.sub(d, b, out=out[3])


def _spread_gradients(g: Tensor, out: Tensor) -> None:
    """Tiles of two output gradients, (2 t, ...) to (4, t, ...); the middle ones doubled."""
    a, b = g[0::2], g[1::2]
    out[0].copy_(a)
    torch.add(a, b, out=out[1])
    torch.sub(a, b, out=out[2])
    out[3].copy_(b)


def _gather_taps(products: Tensor, out: Tensor) -> None:
    """Products at four points, the middle ones doubled, to three taps."""
    both = products[1] + products[2]
    torch.add(products[0], both, alpha=0.5, out=out[0])
    torch.sub(products[1], products[2], out=out[1]).mul_(0.5)
    torch.add(products[3], both, alpha=0.5, out=out[2])
