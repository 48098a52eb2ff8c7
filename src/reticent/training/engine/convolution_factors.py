"""Weight gradients of a convolution for every unit, in several ways, and their norms without making them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from threading import get_ident

import torch
import torch.nn.functional as F
from torch import Tensor

from reticent.training.engine.contributions import Gram, Way, gram, gram_squares, inner_products, scaled_product
from reticent.training.engine.parallel import for_each_unit
from reticent.training.engine.products import product
from reticent.training.engine.units import Units
from reticent.training.engine.winograd import TAPS, MinimalFiltering
from reticent.training.engine.workspace import CHUNK_BYTES, Empty

_LARGEST_UNFOLDED = 2**26
_MULTIPLIED = 32
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
        shapes = (tuple(self.x.shape[1:]), tuple(self.g.shape[1:]), tuple(self.weight.shape))
        return ("convolution", *shapes, self.geometry, self.x.dtype, self.x.device, self.x.stride(), self.g.stride())

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
        ways["grouped"] = self._grouped
        if self.geometry.groups == 1:
            ways["windows"] = self._windows
        if self._filters_minimally:
            ways["winograd"] = self._winograd
        return ways

    @property
    def _filters_minimally(self) -> bool:
        """Whether kernels are of three at stride one, numbers wide enough for sums, and points in the cache."""
        axes, options = self.weight.ndim - 2, self.geometry
        plain = (options.stride, options.dilation, options.groups) == ((1,) * axes, (1,) * axes, 1)
        points = 2**axes * self._positions * sum(self.weight.shape[:2]) * self.x.element_size()
        wide = self.x.dtype in (torch.float32, torch.float64)
        return plain and wide and self.weight.shape[2:] == (TAPS,) * axes and points <= CHUNK_BYTES

    @property
    def _positions(self) -> int:
        return prod(self.g.shape[2:])

    @property
    def _row_bytes(self) -> int:
        """Size of one row's unfolded input."""
        return self._positions * prod(self.weight.shape[1:]) * self.geometry.groups * self.x.element_size()

    def _loop(self, empty: Empty) -> Iterator[Tensor]:
        """The library's own kernel, one unit at a time."""
        kernel, geometry = self.weight, self.geometry
        options = (
            None, geometry.stride, geometry.padding, geometry.dilation, False, (0,) * len(geometry.stride),
            geometry.groups, (False, True, False),
        )  # fmt: skip

        def fill(into: Tensor, x: Tensor, g: Tensor) -> None:
            into.copy_(_backward(g, x, kernel, *options)[1])

        made = empty((len(self.units), *kernel.shape), kernel)
        if _channels_last(kernel):  # as the library writes them
            made = made.view(*made.shape[:2], -1, made.shape[2]).movedim(-1, 2).unflatten(3, kernel.shape[2:])
        return for_each_unit(fill, self.x, self.g, self.units, made)

    def _grouped(self, _: Empty) -> Iterator[Tensor]:
        """One convolution with as many groups as units, a few units at a time."""
        geometry, axes = self.geometry, (0,) * len(self.geometry.stride)
        for units, x, g in self._chunks():
            count = len(x)
            kernels = self.weight.expand(count, *self.weight.shape).flatten(0, 1)
            x, g = (t.transpose(0, 1).flatten(1, 2).contiguous() for t in (x, g))
            found = _backward(
                g, x, kernels, None, geometry.stride, geometry.padding, geometry.dilation, False, axes,
                count * geometry.groups, (False, True, False),
            )[1]  # fmt: skip
            yield self._summed(units, found.view(count, *self.weight.shape))

    def _windows(self, empty: Empty) -> Iterator[Tensor]:
        """One product for each place of the kernel on the first axis, with a window of inputs that lie there in a row.

        Along the other axes inputs are unfolded, one unit at a time, so that they stay in the cache.
        """
        first, *others = self.weight.shape[2:]
        stride, dilation = self.geometry.stride[0], self.geometry.dilation[0]
        reach = stride * (self.g.shape[2] - 1) + 1

        def fill(into: Tensor, x: Tensor, g: Tensor) -> None:
            patches, outputs = self._unfolded_behind(x), g.flatten(2)
            for part, start in zip(into, starts, strict=True):
                window = patches[:, start : start + reach : stride].flatten(1, 2)
                if len(x) == 1:
                    product(outputs[0], window[0], out=part)
                else:
                    part.copy_(product(outputs, window).sum(0))

        outputs, channels = self.weight.shape[:2]
        starts = [place * dilation for place in range(first)]
        made = empty((len(self.units), first, outputs, prod(others) * channels), self.weight)
        for some in for_each_unit(fill, self.x, self.g, self.units, made):
            yield some.unflatten(3, (*others, channels)).movedim((2, -1), (1, 2))

    def _winograd(self, empty: Empty) -> Iterator[Tensor]:
        """Minimal filtering, in memory of its own for each thread."""
        axes = self.weight.ndim - 2
        filters: dict[int, MinimalFiltering] = {}

        def fill(into: Tensor, x: Tensor, g: Tensor) -> None:
            thread = get_ident()
            if thread not in filters:
                filters[thread] = MinimalFiltering(x[0], g[0], self.geometry.padding)
            filters[thread](x, g, into)

        made = empty((len(self.units), *self.weight.shape[2:], *self.weight.shape[:2]), self.weight)
        for some in for_each_unit(fill, self.x, self.g, self.units, made):
            yield some.permute(0, axes + 1, axes + 2, *range(axes, 0, -1))

    def _unfolded_behind(self, x: Tensor) -> Tensor:
        """Inputs (rows, C, *S), padded, with all that the kernel meets on the axes behind the first one.

        (rows, padded S_0, O_1 ..., K_1 ... C); in memory channels are where `x` has them.
        """
        last, kernel, outer = _channels_last(x), self.weight.shape[3:], self.g.shape[3:]
        x = self._bordered(x)
        rows, channels, first = x.shape[:3]
        row, channel, along, *space = x.stride()
        places = [s * d for s, d in zip(space, self.geometry.stride[1:], strict=True)]
        taps = [s * d for s, d in zip(space, self.geometry.dilation[1:], strict=True)]
        met = prod(kernel) * channels
        if last:
            steps = (row, along, *places, *taps, channel)
            return x.as_strided((rows, first, *outer, *kernel, channels), steps).reshape(rows, first, -1, met)
        steps = (row, *taps, channel, along, *places)
        unfolded = x.as_strided((rows, *kernel, channels, first, *outer), steps)
        return unfolded.reshape(rows, met, first, -1).permute(0, 2, 3, 1)

    def _bordered(self, x: Tensor) -> Tensor:
        padding = self.geometry.padding
        return F.pad(x, [side for pad in reversed(padding) for side in (pad, pad)]) if any(padding) else x

    def _chunks(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """A few units at a time: which, their inputs (n, m, C, *S) and output gradients (n, m, p, *O).

        n is the number of units, with m rows each; or of rows, where units differ in size, and m = 1.
        """
        x, g = (t.unflatten(0, (-1, self.units.each or 1)) for t in (self.x, self.g))
        bytes_each = (x.nbytes + g.nbytes) // len(x) + self.weight.nbytes
        at_once = max(1, CHUNK_BYTES // (bytes_each * (1 if self.units.each else max(self.units.counts))))
        for start in range(0, len(self.units), at_once):
            units = slice(start, start + at_once)
            chosen = units if self.units.each else slice(*self._rows(units))
            yield units, x[chosen], g[chosen]

    def _rows(self, units: slice) -> tuple[int, int]:
        chosen = self.units.slices[units]
        return chosen[0].start, chosen[-1].stop

    def _summed(self, units: slice, found: Tensor) -> Tensor:
        """One gradient for each of a few units, from one for each of what `_chunks` gave."""
        return found if self.units.each else Units(self.units.counts[units]).sum(found)

    def _bmm(self, empty: Empty) -> Iterator[Tensor]:
        """Unfolded inputs times output gradients, a few units at a time."""
        made = empty((len(self.units), *self.weight.shape), self.weight)
        at_once = max(1, CHUNK_BYTES // (self._row_bytes * max(self.units.counts)))
        for start in range(0, len(self.units), at_once):
            rows = slice(*self._rows(slice(start, start + at_once)))
            patches, outputs = self._unfolded(self.x[rows]), self._by_group(self.g[rows])
            into = made[start : start + at_once]
            if self.units.each == 1:
                product(outputs, patches.mT, out=into.view(*outputs.shape[:3], -1))
            else:
                units = Units(self.units.counts[start : start + at_once])
                into.copy_(units.sum(product(outputs, patches.mT)).reshape(into.shape))
            yield into

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
        products, by_pixel = self._positions * each, self._sums_pixels
        bytes_per_unit = products * self.x.element_size()
        bytes_per_unit *= prod(self.weight.shape[1:]) * self.geometry.groups + products
        at_once = max(1, CHUNK_BYTES // bytes_per_unit) * each
        parts = []
        for start in range(0, len(self.x), at_once):
            x, g = self.x[start : start + at_once], self.g[start : start + at_once]
            patches = self._summed_pixels(x, each) if by_pixel else gram(_join(self._unfolded(x), each))
            parts.append(gram_squares(patches, gram(_join(self._by_group(g), each))))
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))  # type: ignore[return-value]

    @property
    def _sums_pixels(self) -> bool:
        """Whether inner products of all pixels cost less than those of all patches, which hold each pixel often.

        In elements read and written; as many as `_MULTIPLIED` take as long to multiply and add.
        """
        channels, *kernel = self.weight.shape[1:]
        patch, t, n = channels * prod(kernel), self._positions, prod(self.x.shape[2:])
        by_pixel = n**2 * channels / _MULTIPLIED + n * t * sum(kernel)
        by_patch = t**2 * patch / _MULTIPLIED + t * patch
        return by_pixel < by_patch

    def _summed_pixels(self, x: Tensor, each: int) -> Gram:
        """Inner products of patches, by groups: those of pixels, added up over the kernel's elements axis by axis."""
        inner, outer = x.shape[2:], self.g.shape[2:]
        pixels = _join(x.reshape(len(x), self.geometry.groups, -1, prod(inner)), each)
        total = inner_products(pixels, pixels).unflatten(3, (each, *inner)).unflatten(2, (each, *inner))
        for axis, count in enumerate(outer):
            pair = 3 + axis, 4 + axis + len(outer)
            before, shape = total.movedim(pair, (0, 1)), list(total.shape)
            shape[pair[0]] = shape[pair[1]] = count
            total = total.new_zeros(shape)
            after = total.movedim(pair, (0, 1))
            for into, read in self._meetings(axis):
                after[into, into] += before[read, read]
        whole = total.flatten(3 + len(outer)).flatten(2, 2 + len(outer))
        half = whole.shape[-1] // 2
        return whole[..., :half, :], whole[..., half:, half:]

    def _meetings(self, axis: int) -> list[tuple[slice, slice]]:
        """For each element of the kernel that meets some pixel on this axis: the outputs for which, and the pixels."""
        stride, size = self.geometry.stride[axis], self.x.shape[2 + axis]
        found = []
        for index in range(self.weight.shape[2 + axis]):
            start = index * self.geometry.dilation[axis] - self.geometry.padding[axis]
            first, last = max(0, -(start // stride)), min(self.g.shape[2 + axis] - 1, (size - 1 - start) // stride)
            if first <= last:
                found.append((slice(first, last + 1), slice(first * stride + start, last * stride + start + 1, stride)))
        return found

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
        x = self._bordered(x)
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

    def _by_group(self, g: Tensor) -> Tensor:
        """(rows, groups, p / groups, T)."""
        return g.reshape(len(g), self.geometry.groups, -1, self._positions)


def _join(factor: Tensor, each: int) -> Tensor:
    """Positions of a unit's rows one after the other: (rows, groups, k, T) to (units, groups, k, each * T)."""
    if each == 1:
        return factor
    return factor.unflatten(0, (-1, each)).permute(0, 2, 3, 1, 4).flatten(3)


def _channels_last(x: Tensor) -> bool:
    return x.stride(1) == 1 and x.shape[1] > 1
