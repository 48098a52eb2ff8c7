"""Squared norms that understate nothing worth speaking of, at the speed of float32."""

from __future__ import annotations

import torch
from torch import Tensor

from reticent.training.real_coordinates import real_coordinates

BLOCK = 512
"""Squares added in float32 before the sum goes on in float64: a relative error of at most 512 * 2^-24 in the square."""

MARGIN = {torch.float64: 1e-12, torch.complex128: 1e-12, torch.float32: 5e-5, torch.complex64: 5e-5}
"""Share by which clipping factors are lowered, so that rounding of norm and contribution stays within the clip norm."""
HALF_MARGIN = 2.0**-8

_OVERFLOW, _UNDERFLOW = 1e30, 1e-25


def squared_norms(rows: Tensor) -> Tensor:
    """Squared norm of each row, (rows, ...) to float64 (rows,); rows whose squares leave float32 are redone."""
    flat = real_coordinates(rows.reshape(len(rows), -1)).flatten(1)
    if flat.dtype in (torch.float16, torch.bfloat16):
        flat = flat.float()
    if flat.dtype == torch.float64:
        return torch.linalg.vector_norm(flat, dim=1) ** 2
    squares = _blocked(flat)
    doubtful = ~in_range(squares)
    if doubtful.any():
        squares[doubtful] = torch.linalg.vector_norm(flat[doubtful].double(), dim=1) ** 2
    return squares


def in_range(squares: Tensor) -> Tensor:
    """Which squared norms float32 holds with room to spare, and so the squares that were added."""
    return (squares < _OVERFLOW) & (squares > _UNDERFLOW)


def _blocked(flat: Tensor) -> Tensor:
    blocks = flat.shape[1] // BLOCK
    cut = blocks * BLOCK
    squares = flat.new_zeros(len(flat), dtype=torch.float64)
    if blocks:
        parts = torch.linalg.vector_norm(flat[:, :cut].unflatten(1, (blocks, BLOCK)), dim=2)
        squares += parts.double().square().sum(1)
    if cut < flat.shape[1]:
        squares += torch.linalg.vector_norm(flat[:, cut:], dim=1).double() ** 2
    return squares


def margin(dtypes: set[torch.dtype]) -> float:
    """The largest margin that parameters of these types need."""
    return max(MARGIN.get(dtype, HALF_MARGIN) for dtype in dtypes)
