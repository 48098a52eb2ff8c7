"""Replaces layers that have no place in private training by sound ones, keeping weights where possible."""

from __future__ import annotations

import copy
from typing import Any

import torch
from monai.networks.layers.vector_quantizer import EMAQuantizer
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import is_lazy

from reticent.errors import InputError

_GROUPS, _CHANNELS = 16, 4


def to_private(model: nn.Module) -> nn.Module:
    """A copy of the network without layers that mix records or store what they saw.

    | layer | becomes |
    |---|---|
    | BatchNorm, SyncBatchNorm | GroupNorm of up to 16 groups of 4 or more channels; scale and shift are kept |
    | InstanceNorm with running statistics | the same without |
    | Embedding with `max_norm` or `scale_grad_by_freq` | the same without |
    | MONAI's EMAQuantizer (VQ-VAE) | the same with its codebook frozen at its present values |

    Raises:
        InputError: a lazy layer has no shape yet.
    """
    for name, module in model.named_modules():
        if any(is_lazy(value) for value in (*module._parameters.values(), *module._buffers.values())):
            raise InputError(f"layer {name!r} ({type(module).__name__}) has no shape yet; run the model once first")
    converted = copy.deepcopy(model)
    places = list(converted.named_modules(remove_duplicate=False))
    replacements = {module: _replacement(module) for _, module in places}
    for name, module in places:
        replacement = replacements[module]
        if replacement is None:
            continue
        replacement.train(module.training)
        if not name:
            return replacement
        parent, _, last = name.rpartition(".")
        setattr(converted.get_submodule(parent), last, replacement)
    return converted


def _replacement(module: nn.Module) -> nn.Module | None:
    if isinstance(module, _BatchNorm):
        return _group_norm(module)
    if isinstance(module, _InstanceNorm) and module.track_running_stats:
        return _affine_from(
            module, type(module)(module.num_features, module.eps, affine=module.affine, track_running_stats=False)
        )
    if isinstance(module, nn.Embedding) and (module.max_norm is not None or module.scale_grad_by_freq):
        module.max_norm, module.scale_grad_by_freq = None, False
    if isinstance(module, EMAQuantizer):
        return FrozenQuantizer(module)
    return None


def _group_norm(module: _BatchNorm) -> nn.Module:
    channels = module.num_features
    groups = max(g for g in range(1, _GROUPS + 1) if channels % g == 0 and (g == 1 or channels // g >= _CHANNELS))
    return _affine_from(module, nn.GroupNorm(groups, channels, module.eps, affine=module.affine))


def _affine_from(source: nn.Module, target: nn.Module) -> nn.Module:
    """`target` with the scale and shift of `source`."""
    if source.weight is not None:
        target.weight, target.bias = source.weight, source.bias
    return target


class FrozenQuantizer(nn.Module):
    """A vector quantizer whose codebook no training changes; the losses are those of van den Oord et al. 2017."""

    def __init__(self, source: EMAQuantizer) -> None:
        super().__init__()
        self.source = source

    def train(self, mode: bool = True) -> FrozenQuantizer:
        """Training mode would write averages of records into the codebook: the quantizer stays in evaluation mode."""
        self.training = mode
        self.source.eval()
        return self

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Quantised latents, commitment loss and indices, as the quantizer itself gives them."""
        return self.source(inputs)

    def __getattr__(self, name: str) -> Any:
        """Other methods (`quantize`, `embed`, ...) are the quantizer's own."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("source"), name)
