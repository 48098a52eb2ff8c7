"""Complex tensors as points of a real space: what clipping, noise and accounting count."""

from __future__ import annotations

import torch
from torch import Tensor


def real_coordinates(x: Tensor) -> Tensor:
    """Real and imaginary parts along a last axis of length 2; a real tensor as it is."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def dimension(x: Tensor) -> int:
    """Number of real coordinates: a complex entry has two."""
    return x.numel() * (2 if x.is_complex() else 1)


def wide_dtype(x: Tensor) -> torch.dtype:
    """The double precision of a real or complex tensor."""
    return torch.complex128 if x.is_complex() else torch.float64
