"""Matrix products in single precision on a CPU, by whichever of PyTorch's two libraries is faster for them there.

PyTorch multiplies matrices with MKL, slow on processors of other makers, and convolves with oneDNN, which is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from math import prod

import torch
from torch import Tensor

MEASURED: ContextVar[bool] = ContextVar("products are measured", default=True)
"""False: always as `torch.matmul`, so that two runs add up in the same order."""
_REPEATS = 3
_ONEDNN_FASTER: dict[tuple[object, ...], bool] = {}


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Product of matrices (..., m, k) and (..., k, n) with the same leading axes; `bias` (n,) for two axes only."""
    return _onednn(a, b, bias) if _onednn_faster(a, b) else _matmul(a, b, bias)


def _matmul(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    return a @ b if bias is None else torch.addmm(bias, a, b)


def _onednn(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    if a.ndim == 2:
        return torch.ops.mkldnn._linear_pointwise(a, b.mT, bias, "none", [], "")
    lead = a.shape[:-2]
    made = a.new_empty(prod(lead), a.shape[-2], b.shape[-1])
    for into, left, right in zip(made, a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:]), strict=True):
        into.copy_(_onednn(left, right, None))
    return made.view(*lead, *made.shape[1:])


def _onednn_faster(a: Tensor, b: Tensor) -> bool:
    if not (a.dtype == b.dtype == torch.float32 and a.device.type == "cpu" and MEASURED.get()):
        return False
    if not (torch.backends.mkldnn.is_available() and a.numel() and b.numel()):
        return False
    sizes = (n.bit_length() for n in (*a.shape, b.shape[-1]))  # batches differ at each step
    key = (*sizes, a.stride(-1) == 1, b.stride(-1) == 1, torch.get_num_threads())
    if key not in _ONEDNN_FASTER:
        _ONEDNN_FASTER[key] = _seconds(_onednn, a, b) < _seconds(_matmul, a, b)
    return _ONEDNN_FASTER[key]


@torch.no_grad()
def _seconds(way: Callable[[Tensor, Tensor, None], Tensor], a: Tensor, b: Tensor) -> float:
    """The shortest of a few runs."""
    spent = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        way(a, b, None)
        spent.append(time.perf_counter() - began)
    return min(spent)
