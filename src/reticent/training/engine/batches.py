"""How a batch is read: its records, the unit of each, and the physical batches it is cut into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from reticent.errors import InputError
from reticent.training.engine.units import Units


class BatchAdapter(Protocol):
    """Says what the records of an opaque batch are."""

    def size(self, batch: Any) -> int:
        """Number of records (rows) in the batch."""

    def select(self, batch: Any, rows: Tensor) -> Any:
        """The batch made of these records alone; for packed inputs, with everything that belongs to them."""


class TreeAdapter:
    """Any pytree of tensors with the record axis first."""

    def size(self, batch: Any) -> int:
        """See `BatchAdapter`."""
        sizes = {len(leaf) for leaf in tree_leaves(batch)}
        if len(sizes) != 1:
            raise InputError(
                f"the tensors of a batch must share their first axis (records), found lengths {sorted(sizes)}"
            )
        return sizes.pop()

    def select(self, batch: Any, rows: Tensor) -> Any:
        """See `BatchAdapter`."""
        return tree_map(lambda leaf: leaf[rows.to(leaf.device)], batch)


@dataclass(frozen=True)
class Part:
    """A physical batch: rows of the logical one, in unit order, the layout of its units and their numbers.

    A unit that is larger than a physical batch has several parts of its own; `whole` is False for all but the last.
    """

    rows: Tensor
    units: Units
    numbers: Tensor
    whole: bool = True

    def single(self) -> Iterator[Part]:
        """One unit at a time."""
        for unit, rows in enumerate(self.units.slices):
            count = self.units.counts[unit]
            yield Part(self.rows[rows], Units((count,)), self.numbers[unit : unit + 1], self.whole)


@dataclass(frozen=True)
class Records:
    """Rows of a batch in unit order, without padding."""

    rows: Tensor
    numbers: Tensor
    """Number of each unit that has rows, in order."""
    counts: tuple[int, ...]
    n_units: int

    def parts(self, size: int) -> Iterator[Part]:
        """Cut into physical batches of at most `size` rows, of like sizes; a unit is only split if it is larger."""
        size = _shared_out(len(self.rows), size)
        start = first = 0
        while first < len(self.counts):
            if self.counts[first] > size:
                yield from self._large(first, start, size)
                start, first = start + self.counts[first], first + 1
                continue
            last, rows = first, 0
            while last < len(self.counts) and rows + self.counts[last] <= size:
                rows, last = rows + self.counts[last], last + 1
            chosen = self.rows[start : start + rows]
            yield Part(chosen, Units(self.counts[first:last]), self.numbers[first:last])
            start, first = start + rows, last

    def _large(self, unit: int, start: int, size: int) -> Iterator[Part]:
        end, number = start + self.counts[unit], self.numbers[unit : unit + 1]
        for at in range(start, end, size):
            rows = self.rows[at : min(at + size, end)]
            yield Part(rows, Units((len(rows),)), number, whole=at + size >= end)


def _shared_out(rows: int, size: int) -> int:
    """The size that makes as few physical batches, and no small one at the end."""
    return ceil(rows / ceil(rows / size))


def read_records(units: Tensor | None, records: int, views: int) -> Records:
    """Sort the rows of a batch by unit; -1 marks padding.

    Raises:
        InputError: `views` or `units` do not fit the number of rows.
    """
    if records % views:
        raise InputError(f"the batch has {records} rows, which is not a multiple of views={views}")
    if units is None:
        units = torch.arange(records // views)
    if len(units) * views != records:
        raise InputError(f"units has {len(units)} entries for {records // views} records")
    units = units.cpu().repeat_interleave(views)
    order = torch.argsort(units, stable=True)
    rows = order[units[order] >= 0]
    numbers, counts = torch.unique_consecutive(units[rows], return_counts=True)
    return Records(rows, numbers, tuple(counts.tolist()), int(units.max()) + 1 if len(units) else 0)
