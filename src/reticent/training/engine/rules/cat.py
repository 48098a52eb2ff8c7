"""Concatenation: no weights of its own, but `vmap` would lose the memory format of channels-last images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from reticent.training.engine.call import UnderVmap


class _Cat(UnderVmap):
    @staticmethod
    def vmap(info: Any, in_dims: Any, dim: int, *tensors: Tensor) -> tuple[Tensor, int]:
        rows = [t.movedim(axis, 0) for t, axis in zip(tensors, in_dims[1:], strict=True)]
        lead = rows[0].shape[:2]
        return torch.cat([t.flatten(0, 1) for t in rows], dim).unflatten(0, lead), 0


def cat(tensors: list[Tensor] | tuple[Tensor, ...], dim: int = 0, **kwargs: Any) -> Tensor:
    """`torch.cat` of images (n, C, *S) of one record along their channels; everything else as the library does it."""
    images = all(torch._C._functorch.is_batchedtensor(t) and t.ndim == tensors[0].ndim for t in tensors)
    if images and not kwargs and tensors[0].ndim >= 4 and dim == 1:
        return _Cat.apply(dim, *tensors)
    return torch.cat(tensors, dim, **kwargs)
