"""How many records fit a memory cap: counted on one record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

DEFAULT_MEMORY = 2**30
_ROWS_ON_CPU, _BYTES_ON_CPU = 64, 2**27
"""A CPU gains nothing from more than this many records, unless they are small beside the calls that they need."""
_UNKNOWN = 2**26
_OVERHEAD = 1.5
"""Output gradients in flight, workspaces of kernels, the allocator."""


@dataclass(frozen=True)
class Footprint:
    """Bytes that one more record takes: its activations, and what is kept of its gradient until it is clipped."""

    activations: int
    kept: int

    @property
    def each(self) -> int:
        """Bytes of one record in a physical batch."""
        return self.passing + self.kept

    @property
    def passing(self) -> int:
        """Bytes of one record without what is kept of its gradient."""
        return round(_OVERHEAD * self.activations)

    def at_once(self, memory: int, *, on_cpu: bool) -> int:
        """Records that fit, on a CPU no more than pay."""
        each = max(self.each, 1)
        fit = max(1, memory // each)
        return min(fit, max(_ROWS_ON_CPU, _BYTES_ON_CPU // each)) if on_cpu else fit


def activation_bytes(run: Callable[[Any], Any], record: Any, params: list[Tensor]) -> int:
    """What autograd saves beside the parameters for one record (a batch of size one)."""
    weights = {p.untyped_storage().data_ptr() for p in params}
    saved: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            kept = run(record)
        del kept
    except RuntimeError:  # torch.func inside the model knows no such hooks
        return _UNKNOWN
    return sum(saved.values())
