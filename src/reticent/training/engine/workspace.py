"""Memory for the gradients of a physical batch's units, used again by the next: fresh pages are expensive."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Empty = Callable[[Sequence[int], Tensor], Tensor]
"""Makes an uninitialised tensor of a shape, with the dtype and device of another."""


CHUNK_BYTES = 2**23
"""What is worked on at a time, so that it stays in the cache."""


class Workspace:
    """Buffers that are handed out by `empty`, and are free again, all at once, after `release`."""

    def __init__(self) -> None:
        self._free: list[Tensor] = []
        self._used: list[Tensor] = []
        self._lately: set[int] = set()

    def empty(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """See `Empty`; takes the smallest free buffer that is large enough, and not much too large."""
        size = torch.Size(shape).numel() * like.element_size()
        fitting = [b for b in self._free if b.device == like.device and size <= b.numel() <= 2 * size]
        buffer = min(fitting, key=Tensor.numel, default=None)
        if buffer is None:
            buffer = torch.empty(size, dtype=torch.uint8, device=like.device)
        else:
            self._free = [b for b in self._free if b is not buffer]
        self._used.append(buffer)
        self._lately.add(id(buffer))
        return buffer[:size].view(like.dtype).view(tuple(shape))

    def release(self) -> None:
        """Everything handed out is free; nobody may look at it any more."""
        self._free += self._used
        self._used = []

    def forget_unused(self) -> None:
        """Give back buffers that were not needed since the last call."""
        self._free = [buffer for buffer in self._free if id(buffer) in self._lately]
        self._lately = set()
