"""`F.linear`: the weight gradient of a unit is the product of its output gradients and inputs over all positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from reticent.training.engine.call import Call, Inputs, autocast, narrow, take
from reticent.training.engine.contributions import Way, gram, gram_squares, scaled_product
from reticent.training.engine.norms import squared_norms
from reticent.training.engine.parallel import for_each_unit
from reticent.training.engine.products import product
from reticent.training.engine.units import Units
from reticent.training.engine.workspace import CHUNK_BYTES, Empty


@dataclass
class LinearFactors:
    """Inputs `x` (rows, T, k), conjugated if complex, and output gradients `g` (rows, T, p)."""

    x: Tensor
    g: Tensor
    units: Units

    @property
    def signature(self) -> tuple[object, ...]:
        """See `Factors`."""
        return ("linear", tuple(self.x.shape[1:]), self.g.shape[2], self.x.dtype, self.x.device)

    @property
    def gradient_bytes(self) -> int:
        """See `Factors`."""
        return len(self.units) * self.x.shape[2] * self.g.shape[2] * self.x.element_size()

    @property
    def prefers_ghost(self) -> bool | None:
        """Whether two T x T products cost less than the gradient."""
        t, k, p = self.x.shape[1] * (self.units.each or max(self.units.counts)), self.x.shape[2], self.g.shape[2]
        if t * (k + p) > 8 * k * p:
            return None
        return t * (k + p) <= k * p

    @property
    def ways(self) -> Mapping[str, Way]:
        """See `Factors`."""
        return {"bmm": self._bmm, "loop": self._loop}

    def _bmm(self, empty: Empty) -> Iterator[Tensor]:
        x, g = self.units.join(self.x), self.units.join(self.g)
        made = empty((len(g), g.shape[2], x.shape[2]), x)
        for some in zip(*(t.split(max(1, CHUNK_BYTES // made[0].nbytes)) for t in (g.mT, x, made)), strict=True):
            yield product(some[0], some[1], out=some[2])

    def _loop(self, empty: Empty) -> Iterator[Tensor]:
        """One product for each unit."""
        k, p = self.x.shape[2], self.g.shape[2]

        def fill(into: Tensor, x: Tensor, g: Tensor) -> None:
            product(g.reshape(-1, p).T, x.reshape(-1, k), out=into)

        return for_each_unit(fill, self.x, self.g, self.units, empty((len(self.units), p, k), self.x))

    def first(self, units: int) -> LinearFactors:
        """See `Factors`."""
        head = self.units.first(units)
        return LinearFactors(self.x[: head.rows], self.g[: head.rows], head)

    def chosen(self, units: Tensor) -> LinearFactors:
        """See `Factors`."""
        rows = self.units.expand(units)
        return LinearFactors(self.x[rows], self.g[rows], self.units.chosen(units))

    def ghost_squares(self) -> tuple[Tensor, Tensor]:
        """See `Factors`."""
        x, g = self.units.join(self.x), self.units.join(self.g)
        if x.shape[1] == 1:
            return (squares := squared_norms(x) * squared_norms(g)), squares
        return gram_squares(gram(x.mT[:, None]), gram(g.mT[:, None]))

    def weighted(self, factors: Tensor) -> Tensor:
        """See `Contribution`."""
        rows = self.units.expand(factors)
        x, g = scaled_product(self.x, self.g, rows)
        return product(g.flatten(0, 1).T, x.flatten(0, 1))


def merge(uses: list[LinearFactors]) -> LinearFactors:
    """One weight used several times (tied, recurrent): its uses are further positions of the same rows."""
    return LinearFactors(torch.cat([use.x for use in uses], 1), torch.cat([use.g for use in uses], 1), uses[0].units)


@dataclass
class LinearCall(Call):
    """One call of `F.linear` on rows of any inner shape (..., k)."""

    weight: Tensor
    bias: Tensor | None

    def folded(self, x: Tensor) -> int:
        """See `Call`."""
        return x.ndim - 1

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `Call`."""
        x, weight, bias = autocast(x, self.weight, self.bias)
        return product(x, weight.T, bias), (x,)

    def backward(self, g: Tensor, saved: tuple[Tensor, ...], need_input: bool) -> Tensor | None:
        """See `Call`."""
        (x,) = saved
        units = self.tape.units
        inputs, outputs = (narrow(t.reshape(units.rows, len(t) // units.rows, t.shape[1])) for t in (x.conj(), g))
        if self.trains("bias"):
            self.tape.add_gradients(self.tracked["bias"], units.sum(outputs.sum(1)))
        if self.trains("weight"):
            self.add("weight", LinearFactors(inputs, outputs, units))
        return product(g, self.weight.to(g).conj()) if need_input else None


def linear(inputs: Inputs) -> tuple[Tensor, Call] | None:
    """`F.linear(input, weight, bias=None)`."""
    x, weight, bias = take(inputs, "input", "weight", "bias")
    if not inputs.native(x, weight, bias):
        return None
    return x, LinearCall.of(inputs, weight=weight, bias=bias)
