"""LayerNorm: affine gradients summed over the positions of a record."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from reticent.training.engine.call import Call, Inputs, take

_forward = torch.ops.aten.native_layer_norm
_backward = torch.ops.aten.native_layer_norm_backward


@dataclass
class LayerNormCall(Call):
    """One call of `layer_norm` on rows (..., *shape)."""

    weight: Tensor | None
    bias: Tensor | None
    shape: tuple[int, ...]
    eps: float

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `Call`."""
        y, mean, rstd = _forward(x, self.shape, self.weight, self.bias, self.eps)
        return y, (x, mean, rstd)

    def backward(self, g: Tensor, saved: tuple[Tensor, ...], need_input: bool) -> Tensor | None:
        """See `Call`."""
        x, mean, rstd = saved
        rows, width = len(x), prod(self.shape)
        if self.trains("weight"):
            mean_row, rstd_row = (t.reshape(rows, 1, -1).to(g) for t in (mean, rstd))
            product = (g * x).reshape(rows, -1, width)
            scale = rstd_row @ product - (rstd_row * mean_row) @ g.reshape(rows, -1, width)
            self.add_rows("weight", scale.reshape(rows, *self.shape))
        if self.trains("bias"):
            self.add_rows("bias", g.reshape(rows, -1, *self.shape).sum(1))
        if not need_input:
            return None
        return _backward(g, x, self.shape, mean, rstd, self.weight, self.bias, (True, False, False))[0]


def layer_norm(inputs: Inputs) -> tuple[Tensor, Call] | None:
    """`torch.layer_norm(input, normalized_shape, weight, bias, eps)`."""
    x, shape, weight, bias, eps = take(
        inputs, "input", "normalized_shape", "weight", "bias", "eps", defaults={"eps": 1e-5}
    )
    if not inputs.native(x, weight, bias) or any(w is not None and w.dtype != x.dtype for w in (weight, bias)):
        return None
    return x, LayerNormCall.of(inputs, weight=weight, bias=bias, shape=tuple(shape), eps=eps)
