"""PReLU: its slopes take the type of its input, as autocast has it outside of `vmap`."""

from __future__ import annotations

import torch
from torch import Tensor


def prelu(x: Tensor, weight: Tensor) -> Tensor:
    """`torch.prelu(input, weight)` as elementwise kernel."""
    slopes = weight.to(x.dtype) if weight.dtype != x.dtype else weight
    return torch._prelu_kernel(x, slopes.view(-1, *[1] * max(x.ndim - 2, 0)))
