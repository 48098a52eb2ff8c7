"""Weight gradients of a convolution for every unit, in four ways, and their norms without making them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from reticent.training.engine.contributions import Way, gram_squares, scaled_product
from reticent.training.engine.parallel import for_each_unit
from reticent.training.engine.units import Units
from reticent.training.engine.workspace import Empty

_CHUNK_BYTES, _LARGEST_UNFOLDED = 2**23, 2**26
_backward = torch.ops.aten.convolution_backward


@dataclass(frozen=True)
class Geometry:
    """Options of a convolution, one number per spatial axis."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


@dataclass
class ConvolutionFactors:
    """Inputs `x` (rows, C, *S) and output gradients `g` (rows, p, *O); `weight` (p, C / groups, *K) lends its shape.

    A transposed convolution is the same with the roles of x and g exchanged.
    """

    x: Tensor
    g: Tensor
    weight: Tensor
    geometry: Geometry
    units: Units

    @property
    def signature(self) -> tuple[object, ...]:
        """See `Factors`."""
        shapes = (tuple(t.shape) for t in (self.x, self.g, self.weight))
        layout = (self.x.stride(), self.g.stride(), self.units.each, torch.get_num_threads())
        return ("convolution", *shapes, self.geometry, self.x.dtype, self.x.device, *layout)

    @property
    def gradient_bytes(self) -> int:
        """See `Factors`."""
        return len(self.units) * self.weight.numel() * self.weight.element_size()

    @property
    def prefers_ghost(self) -> bool | None:
        """Whether two T x T products cost less than the gradient (units of unequal size have none)."""
        if self.units.each is None:
            return None
        t, k, p = (
            self._positions * self.units.each,
            prod(self.weight.shape[1:]) * self.geometry.groups,
            len(self.weight),
        )
        cost, gradient = t * (k + p), k * p // self.geometry.groups
        return None if cost > 8 * gradient else cost <= gradient

    @property
    def ways(self) -> Mapping[str, Way]:
        """See `Factors`."""
        ways: dict[str, Way] = {"loop": self._loop}
        if self._row_bytes <= _LARGEST_UNFOLDED:
            ways["bmm"] = self._bmm
            if prod(self.weight.shape[2:]) == 1 or self.geometry.groups > 1:
                ways = dict(reversed(ways.items()))
        if self.weight.ndim == 5 and self.geometry.groups == 1 and self.weight.shape[2] > 1:
            ways["shift"] = self._shift
        return ways

    @property
    def _positions(self) -> int:
        return prod(self.g.shape[2:])

    @property
    def _row_bytes(self) -> int:
        """Size of one row's unfolded input."""
        return self._positions * prod(self.weight.shape[1:]) * self.geometry.groups * self.x.element_size()

    def _loop(self, empty: Empty) -> Tensor:
        """The library's own kernel, one unit at a time."""
        kernel, geometry, axes = self.weight, self.geometry, (0,) * len(self.geometry.stride)

        def one(rows: slice) -> Tensor:
            return _backward(
                self.g[rows], self.x[rows], kernel, None, geometry.stride, geometry.padding, geometry.dilation,
                False, axes, geometry.groups, (False, True, False),
            )[1]  # fmt: skip

        return for_each_unit(one, self.units.slices, empty((len(self.units), *self.weight.shape), self.weight))

    def _shift(self, empty: Empty) -> Tensor:
        """A 3-D kernel as 2-D ones over shifted slices: depth becomes the batch axis."""
        x, g = (t.contiguous(memory_format=torch.channels_last_3d).transpose(1, 2) for t in (self.x, self.g))
        (stride, *strides), (padding, *paddings), (dilation, *dilations) = (
            self.geometry.stride, self.geometry.padding, self.geometry.dilation,
        )  # fmt: skip
        plane = self.weight[:, :, 0]

        def one(rows: slice) -> Tensor:
            made = torch.zeros_like(self.weight, memory_format=torch.contiguous_format)
            for depth in range(self.weight.shape[2]):
                start = depth * dilation - padding
                first = max(0, -(start // stride))
                last = min(g.shape[1], (x.shape[1] - 1 - start) // stride + 1)
                if first >= last:
                    continue
                inner = x[rows, start + first * stride : start + (last - 1) * stride + 1 : stride].flatten(0, 1)
                outer = g[rows, first:last].flatten(0, 1)
                made[:, :, depth] = _backward(
                    outer, inner, plane, None, strides, paddings, dilations, False, (0, 0), 1, (False, True, False)
                )[1]
            return made

        return for_each_unit(one, self.units.slices, empty((len(self.units), *self.weight.shape), self.weight))

    def _bmm(self, empty: Empty) -> Tensor:
        """Unfolded inputs times output gradients, a few units at a time."""
        made = empty((len(self.units), *self.weight.shape), self.weight)
        slices = self.units.slices
        at_once = max(1, _CHUNK_BYTES // (self._row_bytes * max(self.units.counts)))
        for start in range(0, len(slices), at_once):
            chosen = slices[start : start + at_once]
            rows = slice(chosen[0].start, chosen[-1].stop)
            patches, outputs = self._unfolded(self.x[rows]), self._grouped(self.g[rows])
            into = made[start : start + at_once]
            if self.units.each == 1:
                torch.matmul(outputs, patches.mT, out=into.view(*outputs.shape[:3], -1))
            else:
                units = Units(self.units.counts[start : start + at_once])
                into.copy_(units.sum(outputs @ patches.mT).reshape(into.shape))
        return made

    def first(self, units: int) -> ConvolutionFactors:
        """See `Factors`."""
        head = self.units.first(units)
        return ConvolutionFactors(self.x[: head.rows], self.g[: head.rows], self.weight, self.geometry, head)

    def chosen(self, units: Tensor) -> ConvolutionFactors:
        """See `Factors`."""
        rows = self.units.expand(units)
        return ConvolutionFactors(self.x[rows], self.g[rows], self.weight, self.geometry, self.units.chosen(units))

    def ghost_squares(self) -> tuple[Tensor, Tensor]:
        """See `Factors`."""
        each = self.units.each
        assert each is not None
        bytes_per_unit = self._positions * each * self.x.element_size()
        bytes_per_unit *= prod(self.weight.shape[1:]) * self.geometry.groups + self._positions * each
        at_once = max(1, _CHUNK_BYTES // bytes_per_unit) * each
        parts = []
        for start in range(0, len(self.x), at_once):
            rows = slice(start, start + at_once)
            factors = (self._unfolded(self.x[rows]), self._grouped(self.g[rows]))
            parts.append(gram_squares(*(_join(factor, each) for factor in factors)))
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))  # type: ignore[return-value]

    def weighted(self, factors: Tensor) -> Tensor:
        """See `Contribution`."""
        rows = self.units.expand(factors)
        x, g = scaled_product(self.x, self.g, rows)
        geometry, axes = self.geometry, (0,) * len(self.geometry.stride)
        return _backward(
            g, x, self.weight, None, geometry.stride, geometry.padding, geometry.dilation, False, axes, geometry.groups,
            (False, True, False),
        )[1]  # fmt: skip

    def _unfolded(self, x: Tensor) -> Tensor:
        """All patches, (rows, groups, C / groups * K, T)."""
        geometry, kernel, outer = self.geometry, self.weight.shape[2:], self.g.shape[2:]
        if any(geometry.padding):
            x = F.pad(x, [side for pad in reversed(geometry.padding) for side in (pad, pad)])
        rows, channels = x.shape[:2]
        inner = channels // geometry.groups
        row, channel, *space = x.stride()
        sizes = (rows, geometry.groups, inner, *kernel, *outer)
        steps = (
            *(row, channel * inner, channel),
            *(s * d for s, d in zip(space, geometry.dilation, strict=True)),
            *(s * d for s, d in zip(space, geometry.stride, strict=True)),
        )
        return x.as_strided(sizes, steps).reshape(rows, geometry.groups, inner * prod(kernel), prod(outer))

    def _grouped(self, g: Tensor) -> Tensor:
        """(rows, groups, p / groups, T)."""
        return g.reshape(len(g), self.geometry.groups, -1, self._positions)


def _join(factor: Tensor, each: int) -> Tensor:
    """Positions of a unit's rows one after the other: (rows, groups, k, T) to (units, groups, k, each * T)."""
    if each == 1:
        return factor
    return factor.unflatten(0, (-1, each)).permute(0, 2, 3, 1, 4).flatten(3)
