"""Embedding: output gradients of equal tokens of a unit are added up; the table's gradient is never made for a unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from reticent.errors import InputError
from reticent.training.engine.call import Call, Inputs, narrow, take
from reticent.training.engine.contributions import Way, scaled
from reticent.training.engine.norms import squared_norms
from reticent.training.engine.units import Units
from reticent.training.engine.workspace import Empty


@dataclass
class EmbeddingFactors:
    """Tokens (rows, T), output gradients `g` (rows, T, p) that are zero at the padding token, and the table's shape."""

    tokens: Tensor
    g: Tensor
    shape: torch.Size
    units: Units

    @property
    def signature(self) -> tuple[object, ...]:
        """See `Factors`."""
        return ("embedding", tuple(self.g.shape[1:]), tuple(self.shape), self.g.dtype, self.g.device)

    @property
    def gradient_bytes(self) -> int:
        """See `Factors`."""
        return len(self.units) * self.shape.numel() * self.g.element_size()

    @property
    def prefers_ghost(self) -> bool | None:
        """Always: the norm costs one pass over the output gradients."""
        return True

    @property
    def ways(self) -> Mapping[str, Way]:
        """See `Factors`."""
        return {"bmm": self._table}

    def _table(self, empty: Empty) -> Iterator[Tensor]:
        made = empty((len(self.units) * self.shape[0], self.shape[1]), self.g).zero_()
        yield made.index_add_(0, self._places, self.g.flatten(0, 1)).unflatten(0, (-1, self.shape[0]))

    @property
    def _places(self) -> Tensor:
        units = self.units.index.to(self.tokens.device)
        return (units[:, None] * self.shape[0] + self.tokens).flatten()

    def first(self, units: int) -> EmbeddingFactors:
        """See `Factors`."""
        head = self.units.first(units)
        return EmbeddingFactors(self.tokens[: head.rows], self.g[: head.rows], self.shape, head)

    def chosen(self, units: Tensor) -> EmbeddingFactors:
        """See `Factors`."""
        rows = self.units.expand(units)
        return EmbeddingFactors(self.tokens[rows], self.g[rows], self.shape, self.units.chosen(units))

    def ghost_squares(self) -> tuple[Tensor, Tensor]:
        """See `Factors`; norm and sum are of the same added-up rows, so that nothing is left to cancel."""
        places, added = self._added
        squares = torch.zeros(len(self.units), dtype=torch.float64, device=self.g.device)
        squares.index_add_(0, places // self.shape[0], squared_norms(added))
        return squares, torch.zeros_like(squares)

    def weighted(self, factors: Tensor) -> Tensor:
        """See `Contribution`."""
        places, added = self._added
        rows = scaled(added, factors[places // self.shape[0]])
        return added.new_zeros(self.shape).index_add_(0, places % self.shape[0], rows)

    @cached_property
    def _added(self) -> tuple[Tensor, Tensor]:
        """Distinct pairs of unit and token, as places in the units' tables, and their added output gradients."""
        distinct, place = torch.unique(self._places, return_inverse=True)
        return distinct, self.g.new_zeros(len(distinct), self.shape[1]).index_add_(0, place, self.g.flatten(0, 1))


@dataclass
class EmbeddingCall(Call):
    """One call of `embedding`."""

    weight: Tensor
    padding: int

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `Call`."""
        return F.embedding(x, self.weight), (x,)

    def backward(self, g: Tensor, saved: tuple[Tensor, ...], need_input: bool) -> Tensor | None:
        """See `Call`."""
        (tokens,) = saved
        rows = len(tokens)
        tokens, g = tokens.reshape(rows, -1), narrow(g.reshape(rows, -1, g.shape[-1]))
        if self.padding >= 0:
            g = g * (tokens != self.padding)[..., None]
        self.add("weight", EmbeddingFactors(tokens, g, self.weight.shape, self.units))
        return None


def embedding(inputs: Inputs) -> tuple[Tensor, Call] | None:
    """`torch.embedding(weight, input, padding_idx, scale_grad_by_freq, sparse)`."""
    weight, x, padding, by_frequency = take(
        inputs, "weight", "input", "padding_idx", "scale_grad_by_freq", defaults={"padding_idx": -1}
    )
    if by_frequency:
        raise InputError("an embedding with scale_grad_by_freq=True mixes the records of a batch; set it to False")
    if not inputs.native(x, weight):
        return None
    return x, EmbeddingCall.of(inputs, weight=weight, padding=padding)


def refuse_renormalisation(inputs: Inputs) -> None:
    """`torch.embedding_renorm_` rewrites the rows that a batch looked up."""
    raise InputError("an embedding with max_norm writes into its weights what a batch looked up; set max_norm=None")
