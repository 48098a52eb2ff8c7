"""What each unit adds to one parameter's gradient: kept as a matrix, or as two factors that make it again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from reticent.training.engine.norms import BLOCK, in_range, squared_norms
from reticent.training.engine.products import product
from reticent.training.engine.units import Units
from reticent.training.engine.workspace import Empty

_TINY = 1e-18
_CANCELLING = 1e-4
"""Share of the largest possible square below which float32 sums over positions are not trusted."""

Way = Callable[[Empty], Iterable[Tensor]]
"""Makes all units' gradients in memory that it asks for, some units (n, *shape) after the other."""


class Contribution(Protocol):
    """One parameter's gradient for every unit of a physical batch. Private."""

    squares: Tensor
    """Squared norm of each unit's gradient, float64 (units,)."""

    @property
    def nbytes(self) -> int:
        """Memory that is held until the weighted sum, beside the layer's inputs."""

    def weighted(self, factors: Tensor) -> Tensor:
        """Sum over units of factor times gradient, in the parameter's shape; factor 0 drops a unit."""

    def gradients(self) -> Tensor:
        """Every unit's gradient, (units, *shape)."""


class Factors(Protocol):
    """The two factors of a layer's weight gradient, before anything is multiplied out."""

    g: Tensor
    """Output gradients, rows first."""
    units: Units

    @property
    def signature(self) -> tuple[object, ...]:
        """What the cost of a row depends on: kind, shapes, options, dtype, device, memory format."""

    @property
    def ways(self) -> Mapping[str, Way]:
        """Ways of making all units' gradients, by name; the first is the static choice."""

    @property
    def prefers_ghost(self) -> bool | None:
        """Whether the static rule takes ghost norms; None: there are none for these factors."""

    @property
    def gradient_bytes(self) -> int:
        """Size of all units' gradients."""

    def first(self, units: int) -> Factors:
        """The factors of the first units alone."""

    def chosen(self, units: Tensor) -> Factors:
        """The factors of some units, by a mask (units,)."""

    def ghost_squares(self) -> tuple[Tensor, Tensor]:
        """Squared norm of each unit's gradient without making it, and the largest it could be; float64 (units,)."""

    def weighted(self, factors: Tensor) -> Tensor:
        """See `Contribution`."""


class Kept:
    """Gradients of all units, in memory, some units (n, *shape) after the other."""

    def __init__(self, parts: Iterable[Tensor]) -> None:
        self.parts: list[Tensor] = []
        squares = []
        for part in parts:  # the norm of each while it is in the cache
            self.parts.append(part)
            squares.append(_squares(part))
        self.squares = torch.cat(squares)

    @property
    def nbytes(self) -> int:
        """See `Contribution`."""
        return sum(part.nbytes for part in self.parts)

    def weighted(self, factors: Tensor) -> Tensor:
        """See `Contribution`."""
        return _combined(self.parts, factors)

    def gradients(self) -> Tensor:
        """See `Contribution`."""
        return _joined(self.parts)


class Remade:
    """Gradients that are made for their norms, dropped, and made again, by the same kernel, for the sum."""

    def __init__(self, factors: Factors, way: Way) -> None:
        self.way, self.nbytes = way, factors.g.nbytes
        self.squares = torch.cat([_squares(part) for part in way(_fresh)])

    def weighted(self, factors: Tensor) -> Tensor:
        """See `Contribution`."""
        return _combined(self.way(_fresh), factors)

    def gradients(self) -> Tensor:
        """See `Contribution`."""
        return _joined(list(self.way(_fresh)))


@dataclass
class Ghost:
    """Ghost norms; the weighted sum is one ordinary batched weight gradient.

    Units whose gradient is small beside its factors are set apart, and their gradients made: sums over positions cancel
    there, in the norm and again in the sum, where the rounding that is left would not be bounded by any norm.
    """

    factors: Factors
    empty: Empty

    def __post_init__(self) -> None:
        self.squares, largest = self.factors.ghost_squares()
        self._apart = ~((self.squares >= _CANCELLING * largest) & in_range(self.squares))
        self._kept: Kept | None = None
        if self._apart.any():
            self._kept = Kept(_first_way(self.factors.chosen(self._apart))(self.empty))
            self.squares[self._apart] = self._kept.squares

    @property
    def nbytes(self) -> int:
        """See `Contribution`."""
        return self.factors.g.nbytes + (self._kept.nbytes if self._kept else 0)

    def weighted(self, factors: Tensor) -> Tensor:
        """See `Contribution`."""
        if self._kept is None:
            return self.factors.weighted(factors)
        total = self.factors.weighted(torch.where(self._apart, 0, factors))
        return total + self._kept.weighted(factors[self._apart])

    def gradients(self) -> Tensor:
        """See `Contribution`."""
        return _joined(list(_first_way(self.factors)(self.empty)))


def _first_way(factors: Factors) -> Way:
    return next(iter(factors.ways.values()))


def _fresh(shape: Sequence[int], like: Tensor) -> Tensor:
    return like.new_empty(tuple(shape))


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _squares(part: Tensor) -> Tensor:
    return squared_norms(part.permute(0, *_as_stored(part)))


def _combined(parts: Iterable[Tensor], factors: Tensor) -> Tensor:
    start, total = 0, None
    for part in parts:
        axes = _as_stored(part)
        stored, own = part.permute(0, *axes), factors[start : start + len(part)]
        rows = without(stored.reshape(len(stored), -1), own)
        made = (own.to(rows) @ rows).reshape(stored.shape[1:])
        made = made.permute([axes.index(axis) for axis in range(1, part.ndim)])
        total = made if total is None else total + made
        start += len(part)
    assert total is not None
    return total


def _as_stored(gradients: Tensor) -> list[int]:
    """The axes behind the units' in the order in which they lie in memory."""
    return sorted(range(1, gradients.ndim), key=gradients.stride, reverse=True)


def scaled(rows: Tensor, factors: Tensor) -> Tensor:
    """Each row times its factor; a row with factor 0 becomes 0 also if it is not finite."""
    return without(
        rows * factors.to(rows.real if rows.is_complex() else rows).reshape(-1, *[1] * (rows.ndim - 1)), factors
    )


def scaled_product(x: Tensor, g: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    """Two factors of a product, of which each row's product is scaled; the smaller one bears it, tiny factors both."""
    if (factors[factors > 0] < _TINY).any():  # one alone could leave too few digits
        root = factors.sqrt()
        return scaled(x, root), scaled(g, root)
    if x.numel() < g.numel():
        return scaled(x, factors), without(g, factors)
    return without(x, factors), scaled(g, factors)


def without(rows: Tensor, factors: Tensor) -> Tensor:
    """Zeros in the place of rows with factor 0."""
    dropped = (factors == 0).nonzero()[:, 0]
    return rows.index_fill(0, dropped.to(rows.device), 0) if len(dropped) else rows


Gram = tuple[Tensor, Tensor]
"""Inner products of T columns: those of the first half with all, (..., T / 2, T), and of the second with itself."""


def gram_squares(left: Gram, right: Gram) -> tuple[Tensor, Tensor]:
    r"""Squared norm of :math:`G_u A_u^T` for each unit, :math:`\langle A^T A, G^T G \rangle` (Li et al., 2022).

    Args:
        left: inner products of the first factor's columns, (units, groups, T, T) by halves.
        right: of the second's.

    Returns:
        The squares, and the largest they could be for factors of this size, float64 (units,). The rounding of the
        squares is about 1e-7 of the latter.
    """
    first, second = (a * b for a, b in zip(left, right, strict=True))
    mirrored = first[..., first.shape[-2] :]
    squares = _total(first) + _total(mirrored) + _total(second)
    return squares.clamp(min=0), (_size(left) * _size(right)).sum(1)


def _size(products: Gram) -> Tensor:
    """Squared norm of the factor in each group, (units, groups)."""
    upper, lower = (half.diagonal(dim1=-2, dim2=-1).real.sum(-1, dtype=torch.float64) for half in products)
    return upper + lower


def _total(products: Tensor) -> Tensor:
    return products.flatten(1).sum(1, dtype=torch.complex128 if products.is_complex() else torch.float64).real


def gram(m: Tensor) -> Gram:
    """Inner products of columns, (..., k, T)."""
    half = m.shape[-1] // 2
    return inner_products(m[..., :half], m), inner_products(m[..., half:], m[..., half:])


def inner_products(m: Tensor, n: Tensor) -> Tensor:
    """Of columns, (..., k, S) and (..., k, T) to (..., S, T), added up in blocks of k: a longer sum rounds more."""
    (a, b), *others = zip(m.split(BLOCK, dim=-2), n.split(BLOCK, dim=-2), strict=True)
    return sum((product(a.mH, b) for a, b in others), start=product(a.mH, b))
