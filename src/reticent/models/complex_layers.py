"""From complex features to real ones, and the first weights of complex layers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Magnitude(nn.Module):
    """Complex (n, *) to real (n, *): |z|, with gradient 0 at 0."""

    def forward(self, z: Tensor) -> Tensor:
        return z.abs()


@torch.no_grad()
def initialise_complex(model: nn.Module) -> None:
    """Draw the complex convolutions and linear maps of a model anew; their biases become 0, other layers stay.

    Kaiming's normal law (convolutions; fan in, gain sqrt(2)) and Xavier's (linear maps) for each part, divided by
    sqrt(2): E |w|^2 is what the law gives a real weight.
    """
    for module in model.modules():
        if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear) or not module.weight.is_complex():
            continue
        draw = nn.init.xavier_normal_ if isinstance(module, nn.Linear) else nn.init.kaiming_normal_
        for part in (module.weight.real, module.weight.imag):
            draw(part).div_(math.sqrt(2))
        if module.bias is not None:
            module.bias.zero_()
