"""Matrix products in single precision on a CPU, by whichever of PyTorch's two libraries is faster for them there.

PyTorch multiplies matrices with MKL, slow on processors of other makers, and convolves with oneDNN, which is not.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from reticent.training.engine.strategies import FIXED
from reticent.training.engine.timing import magnitude, shortest

_ONEDNN_FASTER: dict[tuple[object, ...], bool] = {}


def product(a: Tensor, b: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """Product of matrices (..., m, k) and (..., k, n) with the same leading axes; `bias` (n,) for two axes only.

    Under a fixed strategy always as `torch.matmul`, so that two runs add up in the same order.
    """
    return (_onednn if _onednn_faster(a, b) else _matmul)(a, b, bias, out)


def _matmul(a: Tensor, b: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    return torch.matmul(a, b, out=out) if bias is None else torch.addmm(bias, a, b, out=out)


def _onednn(a: Tensor, b: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    if a.ndim == 2:
        made = torch.ops.mkldnn._linear_pointwise(_packed(a), _packed(b.mT), bias, "none", [], "")
        return made if out is None else out.copy_(made)
    out = a.new_empty(*a.shape[:-1], b.shape[-1]) if out is None else out
    for into, left, right in zip(out, a, b, strict=True):
        _onednn(left, right, None, into)
    return out


def _onednn_faster(a: Tensor, b: Tensor) -> bool:
    if not (a.dtype == b.dtype == torch.float32 and a.device.type == "cpu" and FIXED.get() is None):
        return False
    if not (torch.backends.mkldnn.is_available() and a.numel() and b.numel()):
        return False
    sizes = map(magnitude, (*a.shape, b.shape[-1]))
    key = (*sizes, a.stride(-1) == 1, b.stride(-1) == 1, torch.get_num_threads())
    if key not in _ONEDNN_FASTER:
        _ONEDNN_FASTER[key] = _seconds(_onednn, a, b) < _seconds(_matmul, a, b)
    return _ONEDNN_FASTER[key]


def _packed(matrix: Tensor) -> Tensor:
    """Rows or columns one after the other: oneDNN refuses others, or multiplies them a thousand times more slowly."""
    return matrix if matrix.is_contiguous() or matrix.mT.is_contiguous() else matrix.contiguous()


@torch.no_grad()
def _seconds(way: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> float:
    return shortest(lambda: way(a, b), a.device)
