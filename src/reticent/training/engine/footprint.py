"""How many records fit a memory cap: counted on a forward pass of one record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

DEFAULT_MEMORY = 2**30
_ROWS_ON_CPU, _BYTES_ON_CPU = 64, 2**27
"""A CPU gains nothing from more than this many records, unless they are small beside the calls that they need."""
_UNKNOWN = 2**26
_OVERHEAD = 1.5
"""Output gradients in flight, workspaces of kernels, the allocator."""


@dataclass(frozen=True)
class Footprint:
    """Bytes that one more record takes: its activations, and its gradient where it is kept."""

    activations: int
    gradient: int

    @property
    def each(self) -> int:
        """Bytes of one record in a physical batch."""
        return round(_OVERHEAD * self.activations) + self.gradient

    def at_once(self, memory: int, *, on_cpu: bool) -> int:
        """Records that fit, on a CPU no more than pay."""
        each = max(self.each, 1)
        fit = max(1, memory // each)
        return min(fit, max(_ROWS_ON_CPU, _BYTES_ON_CPU // each)) if on_cpu else fit


_KNOWN: WeakKeyDictionary[nn.Module, dict[object, Footprint]] = WeakKeyDictionary()


def footprint(model: nn.Module, run: Callable[[Any], Any], record: Any) -> Footprint:
    """Measured by what autograd saves for one record (a batch of size one); cached by model and shapes."""
    params = [p for p in model.parameters() if p.requires_grad]
    shapes = tuple((tuple(t.shape), t.dtype) for t in tree_leaves(record) if isinstance(t, Tensor))
    key = (shapes, sum(p.numel() for p in params))
    known = _KNOWN.setdefault(model, {})
    if key not in known:
        known[key] = _measure(run, record, params)
    return known[key]


def _measure(run: Callable[[Any], Any], record: Any, params: list[nn.Parameter]) -> Footprint:
    weights = {p.untyped_storage().data_ptr() for p in params}
    saved: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor), torch.random.fork_rng():
            kept = run(record)
        del kept
    except RuntimeError:  # torch.func inside the model knows no such hooks
        saved[0] = _UNKNOWN
    return Footprint(sum(saved.values()), sum(p.nbytes for p in params))
