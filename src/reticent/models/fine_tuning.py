"""Which parameters of a pre-trained network are trained: all, the head, biases, or low-rank additions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reticent.errors import InputError
from reticent.models.evaluating import evaluating
from reticent.models.marker_models import FusionClassifier

_FUNCTIONS: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class LowRankLinear(nn.Linear):
    r""":math:`W x + B A x` with A (r, k), B (p, r) trained, B zero at first (Hu et al. 2022)."""

    lora_down: nn.Parameter
    lora_up: nn.Parameter

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (..., p)."""
        return super().forward(x) + F.linear(F.linear(x, self.lora_down), self.lora_up)


class _LowRankConvolution:
    def forward(self: Any, x: Tensor) -> Tensor:
        """The convolution, plus one to r channels followed by one of kernel 1."""
        convolve = _FUNCTIONS[self.weight.ndim - 2]
        narrow = convolve(x, self.lora_down, None, self.stride, self.padding, self.dilation)
        result: Tensor = self._conv_forward(x, self.weight, self.bias) + convolve(narrow, self.lora_up)
        return result


class LowRankConv1d(_LowRankConvolution, nn.Conv1d):
    """`nn.Conv1d` with a low-rank addition."""


class LowRankConv2d(_LowRankConvolution, nn.Conv2d):
    """`nn.Conv2d` with a low-rank addition."""


class LowRankConv3d(_LowRankConvolution, nn.Conv3d):
    """`nn.Conv3d` with a low-rank addition."""


_KINDS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: LowRankLinear,
    nn.Conv1d: LowRankConv1d,
    nn.Conv2d: LowRankConv2d,
    nn.Conv3d: LowRankConv3d,
}


def fine_tune(model: nn.Module, what: str, image: Any, rank: int) -> None:
    """Freeze what is not trained; the head, the last layer that the forward pass calls, always is, and what a
    `FusionClassifier` has beside its encoder.

    | what | trained beside the head |
    |---|---|
    | all | everything |
    | last | nothing |
    | biases | every bias, of normalisation layers too (Ben Zaken et al. 2022) |
    | lora | additions of `rank`, zero at first, to linear layers and plain convolutions (Hu et al. 2022) |

    Args:
        image: an example of what the network takes, to find the head.

    Raises:
        InputError: the network calls no layer with parameters, or `what` finds nothing beside the head.
    """
    if what == "all":
        return
    head = _last_called(model, image)
    model.requires_grad_(False)
    if what == "biases":
        found = [p for name, p in model.named_parameters() if name.rpartition(".")[2].endswith("bias")]
    elif what == "lora":
        _unfuse(model)
        found = [p for m in list(model.modules()) if m is not head and _is_plain(m) for p in _add_low_rank(m, rank)]
    else:
        found = []
    if what != "last" and not found:
        raise InputError(f"{type(model).__name__} has nothing that --fine-tune {what} could train; use last or all")
    beside = [model.norm, model.markers] if isinstance(model, FusionClassifier) else []  # of no public network
    for parameter in (*found, *(p for module in (head, *beside) for p in module.parameters())):
        parameter.requires_grad_(True)


def _last_called(model: nn.Module, image: Any) -> nn.Module:
    called: list[nn.Module] = []
    owners = [module for module in model.modules() if any(True for _ in module.parameters(recurse=False))]
    handles = [module.register_forward_hook(lambda own, *_: called.append(own)) for module in owners]
    try:
        with evaluating(model), torch.no_grad():
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    if not called:
        raise InputError(f"{type(model).__name__} calls no layer that holds parameters; leave out --fine-tune")
    return called[-1]


def _is_plain(layer: nn.Module) -> bool:
    """Whether an addition of the same geometry can stand beside the layer."""
    return (
        type(layer) in _KINDS
        and getattr(layer, "groups", 1) == 1
        and getattr(layer, "padding_mode", "zeros") == "zeros"
    )


def _unfuse(model: nn.Module) -> None:
    """Let PyTorch's encoder layers call their layers in evaluation mode too: fused, they would take weights alone."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # no activation that the fused kernel knows


def _add_low_rank(layer: nn.Module, rank: int) -> list[nn.Parameter]:
    weight: Tensor = layer.weight  # type: ignore[assignment]
    down = weight.new_empty(rank, *weight.shape[1:])
    nn.init.kaiming_uniform_(down, a=5**0.5)  # as PyTorch draws the layer itself
    up = weight.new_zeros(weight.shape[0], rank, *[1] * (weight.ndim - 2))
    layer.__class__ = _KINDS[type(layer)]
    layer.lora_down, layer.lora_up = nn.Parameter(down), nn.Parameter(up)
    return [layer.lora_down, layer.lora_up]
