"""Convolutions and transposed ones in one to three dimensions, with groups, stride, dilation and padding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from reticent.training.engine.call import Call, Inputs, autocast, narrow, take
from reticent.training.engine.convolution_factors import ConvolutionFactors, Geometry

_backward = torch.ops.aten.convolution_backward


@dataclass
class ConvolutionCall(Call):
    """One call of `convN` or `conv_transposeN`; a record may hold several images, as slices of a volume do."""

    weight: Tensor
    bias: Tensor | None
    geometry: Geometry
    transposed: bool
    output_padding: tuple[int, ...]

    def folded(self, x: Tensor) -> int:
        """See `Call`."""
        return x.ndim - self.weight.ndim + 1

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `Call`."""
        x, weight, bias = autocast(x, self.weight, self.bias)
        y = torch.convolution(
            x, weight, bias, self.geometry.stride, self.geometry.padding, self.geometry.dilation,
            self.transposed, self.output_padding, self.geometry.groups,
        )  # fmt: skip
        return y, (x,)

    def backward(self, g: Tensor, saved: tuple[Tensor, ...], need_input: bool) -> Tensor | None:
        """See `Call`."""
        (x,) = saved
        if self.trains("bias"):
            self.add_rows("bias", g.flatten(2).sum(2))
        if self.trains("weight"):
            first, second = (g, x) if self.transposed else (x, g)
            factors = ConvolutionFactors(narrow(first), narrow(second), narrow(self.weight), self.geometry, self.units)
            self.add("weight", factors)
        if not need_input:
            return None
        return _backward(
            g, x, self.weight.to(g), None, self.geometry.stride, self.geometry.padding, self.geometry.dilation,
            self.transposed, self.output_padding, self.geometry.groups, (True, False, False),
        )[0]  # fmt: skip


def convolution(ndim: int, inputs: Inputs) -> tuple[Tensor, Call] | None:
    """`F.conv1d`, `F.conv2d`, `F.conv3d`."""
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    x, weight, bias, stride, padding, dilation, groups = take(
        inputs, *names, defaults={"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    )
    if not inputs.native(x, weight, bias) or x.is_complex():
        return None
    dilation = _each(dilation, ndim)
    if padding == "valid":
        padding = 0
    elif padding == "same":
        x, padding = _pad_same(x, weight, dilation)
    geometry = Geometry(_each(stride, ndim), _each(padding, ndim), dilation, groups)
    return x, ConvolutionCall.of(
        inputs, weight=weight, bias=bias, geometry=geometry, transposed=False, output_padding=(0,) * ndim
    )


def transposed_convolution(ndim: int, inputs: Inputs) -> tuple[Tensor, Call] | None:
    """`F.conv_transpose1d`, `F.conv_transpose2d`, `F.conv_transpose3d`."""
    names = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
    x, weight, bias, stride, padding, output_padding, groups, dilation = take(
        inputs, *names, defaults={"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1}
    )
    if not inputs.native(x, weight, bias) or x.is_complex():
        return None
    geometry = Geometry(_each(stride, ndim), _each(padding, ndim), _each(dilation, ndim), groups)
    return x, ConvolutionCall.of(
        inputs, weight=weight, bias=bias, geometry=geometry, transposed=True, output_padding=_each(output_padding, ndim)
    )


def complex_convolution(real: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """A complex convolution as four real ones: (W + iV)(x + iy) = Wx - Vy + i (Wy + Vx)."""
    x, weight, bias = args[0], args[1], args[2] if len(args) > 2 else kwargs.pop("bias", None)
    apply = partial(_without_bias, real, args[3:], kwargs)
    w, v = weight.real, weight.imag
    with torch.autocast(x.device.type, enabled=False):  # which leaves complex layers alone
        y = torch.complex(apply(x.real, w) - apply(x.imag, v), apply(x.imag, w) + apply(x.real, v))
    return y if bias is None else y + bias.reshape(-1, *[1] * (weight.ndim - 2))


def _without_bias(
    real: Callable[..., Tensor], options: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor, weight: Tensor
) -> Tensor:
    return real(x, weight, None, *options, **kwargs)


def _pad_same(x: Tensor, weight: Tensor, dilation: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]]:
    """Even kernels need one more zero on the far side: pad here, and convolve without."""
    totals = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    if all(total % 2 == 0 for total in totals):
        return x, tuple(total // 2 for total in totals)
    pads = [side for total in reversed(totals) for side in (total // 2, total - total // 2)]
    return F.pad(x, pads), (0,) * len(totals)


def _each(value: Any, ndim: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * ndim if len(values) == 1 else values


FUNCTIONS: Mapping[Callable[..., Any], tuple[int, bool]] = {
    torch.conv1d: (1, False),
    torch.conv2d: (2, False),
    torch.conv3d: (3, False),
    torch.conv_transpose1d: (1, True),
    torch.conv_transpose2d: (2, True),
    torch.conv_transpose3d: (3, True),
}
