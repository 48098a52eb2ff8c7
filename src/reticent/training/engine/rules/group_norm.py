"""GroupNorm, and InstanceNorm as GroupNorm with one channel a group."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from reticent.training.engine.call import Call, Inputs, take

_forward = torch.ops.aten.native_group_norm
_backward = torch.ops.aten.native_group_norm_backward


@dataclass
class GroupNormCall(Call):
    """One call of `group_norm` on rows (m, C, *S).

    A batch of N images with C channels in G groups is also one image with NC channels in NG groups. Read like this, the
    library's own backward gives the affine gradients of every image, at no further cost.
    """

    weight: Tensor | None
    bias: Tensor | None
    groups: int
    eps: float

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `Call`."""
        x = x.contiguous()
        n, channels = x.shape[:2]
        y, mean, rstd = _forward(x, self.weight, self.bias, n, channels, prod(x.shape[2:]), self.groups, self.eps)
        return y, (x, mean, rstd)

    def folded(self, x: Tensor) -> int:
        """See `Call`."""
        return 2

    def backward(self, g: Tensor, saved: tuple[Tensor, ...], need_input: bool) -> Tensor | None:
        """See `Call`."""
        images, mean, rstd = saved
        n, channels = images.shape[:2]
        space = prod(images.shape[2:])
        weight = None if self.weight is None else self.weight.repeat(n)
        x, scale, shift = _backward(
            g.contiguous().view(1, n * channels, space), images.view(1, n * channels, space),
            mean.view(1, -1), rstd.view(1, -1), weight, 1, n * channels, space, n * self.groups,
            (need_input, self.trains("weight"), self.trains("bias")),
        )  # fmt: skip
        if self.trains("weight"):
            self.add_rows("weight", scale.view(n, channels))
        if self.trains("bias"):
            self.add_rows("bias", shift.view(n, channels))
        return x.view(g.shape) if need_input else None


def group_norm(inputs: Inputs) -> tuple[Tensor, Call] | None:
    """`torch.group_norm(input, num_groups, weight, bias, eps)`."""
    x, groups, weight, bias, eps = take(inputs, "input", "num_groups", "weight", "bias", "eps", defaults={"eps": 1e-5})
    return _call(inputs, x, groups, weight, bias, eps)


def instance_norm(inputs: Inputs) -> tuple[Tensor, Call] | None:
    """`torch.instance_norm` with statistics of the input; with stored statistics it is left to the general path."""
    x, weight, bias, *_, use_input_stats, _, eps = take(
        inputs, "input", "weight", "bias", "running_mean", "running_var", "use_input_stats", "momentum", "eps"
    )
    return _call(inputs, x, x.shape[1], weight, bias, eps) if use_input_stats else None


def _call(
    inputs: Inputs, x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Call] | None:
    if not inputs.native(x, weight, bias) or any(w is not None and w.dtype != x.dtype for w in (weight, bias)):
        return None
    return x, GroupNormCall.of(inputs, weight=weight, bias=bias, groups=groups, eps=eps)
