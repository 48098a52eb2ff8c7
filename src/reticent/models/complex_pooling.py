"""Pooling of complex maps: part by part, or by magnitude."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PerPart(nn.Module):
    """Applies a real layer to the real and to the imaginary part: `PerPart(nn.AvgPool2d(2))` averages complex maps.

    With max-pooling inside, the parts of an output can come from two pixels: see `MagnitudeMaxPool`.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, z: Tensor) -> Tensor:
        return torch.complex(self.layer(z.real), self.layer(z.imag))


class MagnitudeMaxPool(nn.Module):
    """The entry of largest magnitude of each window: complex (n, C, *S) to (n, C, *(S // size)).

    Windows of `size` along every axis S lie side by side; what is left at the far end is dropped. Of equal magnitudes
    the first is taken.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, z: Tensor) -> Tensor:
        size, axes = self.size, z.ndim - 2
        for axis in range(2, z.ndim):
            z = z.narrow(axis, 0, z.shape[axis] // size * size)
        for axis in range(axes):
            z = z.unflatten(2 + axis, (-1, size)).movedim(3 + axis, -1)
        windows = z.flatten(2 + axes)
        largest = windows.detach().abs().argmax(-1, keepdim=True)
        return windows.gather(-1, largest)[..., 0]

    def extra_repr(self) -> str:
        return f"size={self.size}"
