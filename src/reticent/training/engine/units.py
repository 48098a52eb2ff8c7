"""Which privacy unit each row of a physical batch belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Units:
    """Rows of a physical batch by unit: `counts[u]` neighbouring rows belong to unit u."""

    counts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.counts)

    def first(self, units: int) -> Units:
        """The layout of the first units alone."""
        return Units(self.counts[:units])

    def chosen(self, units: Tensor) -> Units:
        """The layout of some units, by a mask (units,)."""
        return Units(tuple(count for count, taken in zip(self.counts, units.tolist(), strict=True) if taken))

    @property
    def rows(self) -> int:
        """Rows in all."""
        return sum(self.counts)

    @cached_property
    def each(self) -> int | None:
        """Rows of every unit, where all have as many; else None."""
        return self.counts[0] if len(set(self.counts)) == 1 else None

    @cached_property
    def index(self) -> Tensor:
        """Unit of each row, LongTensor (rows,)."""
        return torch.repeat_interleave(torch.tensor(self.counts))

    @cached_property
    def slices(self) -> list[slice]:
        """The rows of each unit."""
        ends = torch.tensor(self.counts).cumsum(0).tolist()
        return [slice(end - count, end) for end, count in zip(ends, self.counts, strict=True)]

    def times(self, repeats: int) -> Units:
        """The layout after every row became `repeats` neighbouring rows (slices of a volume, say)."""
        return self if repeats == 1 else Units(tuple(count * repeats for count in self.counts))

    def sum(self, rows: Tensor) -> Tensor:
        """Sum over the rows of each unit: (rows, ...) to (units, ...)."""
        if self.each == 1:
            return rows
        if self.each is not None:
            return rows.unflatten(0, (len(self), self.each)).sum(1)
        total = rows.new_zeros(len(self), *rows.shape[1:])
        return total.index_add_(0, self.index.to(rows.device), rows)

    def join(self, rows: Tensor) -> Tensor:
        """Positions of a unit's rows one after the other, (rows, T, k) to (units, m T, k), short units padded by 0."""
        if self.each is not None:
            return rows.reshape(len(self), self.each * rows.shape[1], rows.shape[2])
        longest = max(self.counts)
        joined = rows.new_zeros(len(self), longest, *rows.shape[1:])
        place = torch.cat([torch.arange(count) for count in self.counts])
        joined[self.index, place] = rows
        return joined.flatten(1, 2)

    def expand(self, factors: Tensor) -> Tensor:
        """The value of its unit for each row: (units,) to (rows,)."""
        return factors if self.each == 1 else factors[self.index.to(factors.device)]
