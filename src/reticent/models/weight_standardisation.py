"""Weight standardisation for the convolutions of any network (Qiao et al. 2019)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from reticent.errors import InputError

_SMALLEST = 1e-4


def standardised(weight: Tensor) -> Tensor:
    r"""Each output filter with mean 0 and variance 1 / fan-in, so that the layer keeps its inputs' variance.

    :math:`(w - \bar w) / \sqrt{\max(n \operatorname{Var} w, 10^{-4})}` over the n weights of a filter (Brock et al.
    2021, without its gain).
    """
    axes = tuple(range(1, weight.ndim))
    variance, mean = torch.var_mean(weight, axes, correction=0, keepdim=True)
    return (weight - mean) * (variance * weight[0].numel()).clamp(min=_SMALLEST).rsqrt()


class _Standardised:
    def forward(self: Any, x: Tensor) -> Tensor:
        """The convolution with its standardised weights."""
        result: Tensor = self._conv_forward(x, standardised(self.weight), self.bias)
        return result


class StandardisedConv1d(_Standardised, nn.Conv1d):
    """`nn.Conv1d` with standardised weights."""


class StandardisedConv2d(_Standardised, nn.Conv2d):
    """`nn.Conv2d` with standardised weights."""


class StandardisedConv3d(_Standardised, nn.Conv3d):
    """`nn.Conv3d` with standardised weights."""


_KINDS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: StandardisedConv1d,
    nn.Conv2d: StandardisedConv2d,
    nn.Conv3d: StandardisedConv3d,
}


def standardise_weights(model: nn.Module) -> None:
    """Let every convolution that mixes several inputs use standardised weights; parameters keep names and values.

    Raises:
        InputError: the network has no convolution.
    """
    found = [module for module in model.modules() if type(module) in _KINDS and module.weight[0].numel() > 1]  # type: ignore[index]
    if not found:
        raise InputError(f"{type(model).__name__} has no convolution; leave out --standardise-weights")
    for module in found:
        module.__class__ = _KINDS[type(module)]
