"""GroupNorm, and InstanceNorm as GroupNorm with one channel a group."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from reticent.training.engine.call import Call, Inputs, narrow, take
from reticent.training.engine.workspace import CHUNK_BYTES

_forward = torch.ops.aten.native_group_norm
_backward = torch.ops.aten.native_group_norm_backward
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
_Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Of the input, and of scale and shift for each image."""


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
        x = _laid_out(x, _is_last(x))
        n, channels = x.shape[:2]
        y, mean, rstd = _forward(x, self.weight, self.bias, n, channels, prod(x.shape[2:]), self.groups, self.eps)
        return y, (x, mean, rstd)

    def folded(self, x: Tensor) -> int:
        """See `Call`."""
        return 2

    def backward(self, g: Tensor, saved: tuple[Tensor, ...], need_input: bool) -> Tensor | None:
        """See `Call`."""
        x, mean, rstd = saved
        g = _laid_out(g, _is_last(x))  # the kernel is silently wrong where formats differ
        backward = self._as_one_image if x.is_contiguous() else self._image_by_image
        gradient, scale, shift = backward(g, x, mean, rstd, need_input)
        if scale is not None:
            self.add_rows("weight", scale)
        if shift is not None:
            self.add_rows("bias", shift)
        return gradient

    def _as_one_image(self, g: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, need_input: bool) -> _Gradients:
        n, channels, space = *x.shape[:2], prod(x.shape[2:])
        gradient, scale, shift = _backward(
            g.view(1, n * channels, space), x.view(1, n * channels, space), mean.view(1, -1), rstd.view(1, -1),
            None if self.weight is None else self.weight.repeat(n), 1, n * channels, space, n * self.groups,
            (need_input, self.trains("weight"), self.trains("bias")),
        )  # fmt: skip
        shape = (n, channels)
        return (
            gradient.view(x.shape) if need_input else None,
            scale.view(shape) if self.trains("weight") else None,
            shift.view(shape) if self.trains("bias") else None,
        )

    def _image_by_image(self, g: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, need_input: bool) -> _Gradients:
        """Channels-last images cannot be read as one: the kernel's own formula for the affine gradients, for each."""
        n, channels, space = *x.shape[:2], prod(x.shape[2:])
        gradient = scale = None
        if need_input:
            options = (self.weight, n, channels, space, self.groups, (True, False, False))
            gradient = _backward(g, x, mean, rstd, *options)[0]
        outputs = narrow(g.flatten(2))
        shift = outputs.sum(2)
        if self.trains("weight"):
            centre, width = (narrow(t).repeat_interleave(channels // self.groups, 1) for t in (mean, rstd))
            few = max(1, CHUNK_BYTES // (4 * outputs[0].nbytes))
            pairs = zip(outputs.split(few), narrow(x.flatten(2)).split(few), strict=True)
            scale = (torch.cat([(a * b).sum(2) for a, b in pairs]) - centre * shift) * width
        return gradient, scale, shift if self.trains("bias") else None


def _laid_out(x: Tensor, last: bool) -> Tensor:
    """Channels-last with the strides that the kernel expects also along axes of length 1, or contiguous."""
    if not last:
        return x.contiguous()
    x = x.contiguous(memory_format=_CHANNELS_LAST[x.ndim])
    channels, space = x.shape[1], x.shape[2:]
    steps = [channels * prod(space[axis + 1 :]) for axis in range(len(space))]
    return x.as_strided(x.shape, (channels * prod(space), 1, *steps))


def _is_last(x: Tensor) -> bool:
    memory_format = _CHANNELS_LAST.get(x.ndim)
    return memory_format is not None and x.is_contiguous(memory_format=memory_format) and not x.is_contiguous()


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
