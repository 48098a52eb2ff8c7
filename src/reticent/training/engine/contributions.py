"""What each unit adds to one parameter's gradient: kept as a matrix, or as two factors that make it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from reticent.training.engine.norms import squared_norms
from reticent.training.engine.units import Units
from reticent.training.engine.workspace import Empty

GHOST = "ghost"
_GHOST_ROUNDING, _GHOST_ACCURACY = 2.0**-22, 5e-5


Way = Callable[[Empty], Tensor]
"""Makes all units' gradients, (units, *shape), in memory that it asks for."""


class Contribution(Protocol):
    """One parameter's gradient for every unit of a physical batch. Private."""

    squares: Tensor
    """Squared norm of each unit's gradient, float64 (units,)."""

    def weighted(self, factors: Tensor) -> Tensor:
        """Sum over units of factor times gradient, in the parameter's shape; factor 0 drops a unit."""

    def gradients(self) -> Tensor:
        """Every unit's gradient, (units, *shape)."""


class Factors(Protocol):
    """The two factors of a layer's weight gradient, before anything is multiplied out."""

    units: Units

    @property
    def signature(self) -> tuple[object, ...]:
        """What the cost depends on: kind, shapes, options, dtype, device, memory format."""

    @property
    def ways(self) -> Mapping[str, Way]:
        """Ways of making all units' gradients, by name; the first is the static choice."""

    @property
    def device(self) -> torch.device:
        """Where they are."""

    @property
    def prefers_ghost(self) -> bool | None:
        """Whether the static rule takes ghost norms; None: there are none for these factors."""

    @property
    def gradient_bytes(self) -> int:
        """Size of all units' gradients."""

    def first(self, units: int) -> Factors:
        """The factors of the first units alone."""

    def ghost_squares(self) -> Tensor:
        """Squared norm of each unit's gradient without making it, float64 (units,)."""

    def weighted(self, factors: Tensor) -> Tensor:
        """See `Contribution`."""


@dataclass
class Kept:
    """Gradients of all units, in memory."""

    values: Tensor

    def __post_init__(self) -> None:
        self.squares = squared_norms(self.values)

    def weighted(self, factors: Tensor) -> Tensor:
        """See `Contribution`."""
        values = without(self.values.reshape(len(self.values), -1), factors)
        return (factors.to(values) @ values).reshape(self.values.shape[1:])

    def gradients(self) -> Tensor:
        """See `Contribution`."""
        return self.values


@dataclass
class Factored:
    """Factors whose norms are known; the weighted sum is one ordinary batched weight gradient."""

    factors: Factors
    squares: Tensor
    way: Way
    empty: Empty

    def weighted(self, factors: Tensor) -> Tensor:
        """See `Contribution`."""
        return self.factors.weighted(factors)

    def gradients(self) -> Tensor:
        """See `Contribution`."""
        return self.way(self.empty)


def scaled(rows: Tensor, factors: Tensor) -> Tensor:
    """Each row times its factor; a row with factor 0 becomes 0 also if it is not finite."""
    return without(
        rows * factors.to(rows.real if rows.is_complex() else rows).reshape(-1, *[1] * (rows.ndim - 1)), factors
    )


def without(rows: Tensor, factors: Tensor) -> Tensor:
    """Zeros in the place of rows with factor 0."""
    dropped = (factors == 0).nonzero()[:, 0]
    return rows.index_fill(0, dropped.to(rows.device), 0) if len(dropped) else rows


def gram_squares(a: Tensor, g: Tensor) -> Tensor:
    r"""Squared norm of :math:`G_u A_u^T` for each unit, :math:`\langle A^T A, G^T G \rangle` (Li et al., 2022).

    Args:
        a: first factors, (units, groups, k, T).
        g: second factors, (units, groups, p, T).

    The products cancel where gradients are small beside their factors: units for which float32 could be off by more
    than 5e-5 are redone from the gradient itself in float64.
    """
    left, right = a.mH @ a, g.mH @ g
    squares = (left * right).real.flatten(1).sum(1).double()
    diagonals = [m.diagonal(dim1=-2, dim2=-1).real.flatten(1).sum(1).double() for m in (left, right)]
    doubtful = ~(squares * _GHOST_ACCURACY > diagonals[0] * diagonals[1] * _GHOST_ROUNDING)
    if a.dtype not in (torch.float64, torch.complex128) and doubtful.any():
        wide = torch.complex128 if a.is_complex() else torch.float64
        squares[doubtful] = squared_norms(g[doubtful].to(wide) @ a[doubtful].to(wide).mT)
    return squares.clamp(min=0)
