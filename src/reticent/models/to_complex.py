"""A network's complex-valued counterpart, layer by layer."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from reticent.errors import InputError
from reticent.models.complex_activations import ConjMish
from reticent.models.complex_layers import initialise_complex
from reticent.models.complex_norm import ComplexGroupNorm
from reticent.models.complex_pooling import MagnitudeMaxPool, PerPart

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.SiLU, nn.GELU, nn.Mish, nn.Tanh, nn.Softplus)
_MEANS = (nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
_MAXIMA = (nn.MaxPool2d, nn.MaxPool3d)
_AS_THEY_ARE = (nn.Flatten, nn.Unflatten, nn.Identity)


def to_complex(model: nn.Module) -> nn.Module:
    """A copy with complex layers and new weights: complex inputs to complex outputs, which `Magnitude` makes real.

    | layer | becomes |
    |---|---|
    | convolution (zero padding), Linear | the same, complex64; see `initialise_complex` |
    | GroupNorm | ComplexGroupNorm |
    | ReLU, LeakyReLU, ELU, SELU, SiLU, GELU, Mish, Tanh, Softplus | ConjMish |
    | average pooling | PerPart |
    | max-pooling of cubic windows side by side | MagnitudeMaxPool |

    What a forward does beside its layers stays: sums and concatenations suit complex maps, `F.relu` raises.

    Raises:
        InputError: a layer is none of these, or a module with layers inside has parameters or buffers of its own.
    """
    converted = copy.deepcopy(model)
    places = list(converted.named_modules(remove_duplicate=False))
    counterparts = {module: _counterpart(name, module) for name, module in places}
    for name, module in places:
        counterpart = counterparts[module]
        if counterpart is module:
            continue
        counterpart.train(module.training)
        if name:
            parent, _, last = name.rpartition(".")
            setattr(converted.get_submodule(parent), last, counterpart)
        else:
            converted = counterpart
    initialise_complex(converted)
    return converted


def _counterpart(name: str, module: nn.Module) -> nn.Module:
    """The complex layer; the module itself if it holds others and nothing else, or has no numbers."""
    holds = any(True for _ in module.children()) and not module._parameters and not module._buffers
    found = module if holds or type(module) in _AS_THEY_ARE else _replacement(module)
    if found is None:
        raise InputError(f"layer {name!r} ({type(module).__name__}) has no complex counterpart; replace it first")
    return found


def _replacement(module: nn.Module) -> nn.Module | None:
    """The complex layer, of exactly these types: what derives from them may compute something else."""
    kind = type(module)
    if kind in _CONVOLUTIONS:
        return _convolution(module)
    if isinstance(module, nn.Linear) and kind is nn.Linear:
        return nn.Linear(module.in_features, module.out_features, module.bias is not None, dtype=torch.complex64)
    if isinstance(module, nn.GroupNorm) and kind is nn.GroupNorm and module.affine:
        return ComplexGroupNorm(module.num_groups, module.num_channels, module.eps)
    if kind in _ACTIVATIONS:
        return ConjMish()
    if kind in _MEANS:
        return PerPart(module)
    return _maximum(module) if kind in _MAXIMA else None


def _convolution(module: Any) -> nn.Module | None:
    if module.padding_mode != "zeros":
        return None
    sizes = (module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding)
    options = (module.dilation, module.groups, module.bias is not None)
    return type(module)(*sizes, *options, dtype=torch.complex64)


def _maximum(module: Any) -> nn.Module | None:
    size, apart = module.kernel_size, module.stride == module.kernel_size and module.dilation == 1
    if not isinstance(size, int) or not apart or module.padding or module.ceil_mode:
        return None
    return MagnitudeMaxPool(size)
