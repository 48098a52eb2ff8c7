"""Channels-last or not: a network is trained in the memory format in which it runs faster on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from reticent.training.prediction import forward

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
_ROUNDS = 3


def fastest_format(model: nn.Module, images: Mapping[str, Tensor]) -> torch.memory_format:
    """Measured by passes forward and back over made-up images (n, C, *S); the model is left laid out in it."""
    last = _CHANNELS_LAST.get(next(iter(images.values())).ndim)
    if last is None:
        return torch.contiguous_format
    formats = (torch.contiguous_format, last)
    seconds = dict.fromkeys(formats, float("inf"))
    for _ in range(_ROUNDS):  # the first one also warms up
        for memory_format in formats:
            lay_out(model, memory_format)
            seconds[memory_format] = min(seconds[memory_format], _seconds(model, laid_out(images, memory_format)))
    fastest = min(formats, key=seconds.__getitem__)
    lay_out(model, fastest)
    return fastest


def lay_out(model: nn.Module, memory_format: torch.memory_format) -> None:
    """Store the model's weights in this memory format, or with channels last in that of their own number of axes."""
    for weight in (*model.parameters(), *model.buffers()):
        own = memory_format if memory_format is torch.contiguous_format else _CHANNELS_LAST.get(weight.ndim)
        if own is not None:
            weight.data = weight.data.contiguous(memory_format=own)


def laid_out(images: Mapping[str, Tensor], memory_format: torch.memory_format) -> dict[str, Tensor]:
    """The images in this memory format; vectors stay as they are."""
    return {name: x.contiguous(memory_format=memory_format) if x.ndim > 2 else x for name, x in images.items()}


def differentiable(images: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The images as leaves with a gradient, for an ordinary backward pass.

    Otherwise PyTorch's GroupNorm would crash on channels-last inputs that need none: images, or what frozen layers make
    of them.
    """
    return {name: x.detach().requires_grad_() for name, x in images.items()}


def _seconds(model: nn.Module, images: Mapping[str, Tensor]) -> float:
    leaves = differentiable(images)
    wanted = [*leaves.values(), *(p for p in model.parameters() if p.requires_grad)]
    began = time.perf_counter()
    torch.autograd.grad(forward(model, leaves).sum(), wanted, allow_unused=True)
    return time.perf_counter() - began
