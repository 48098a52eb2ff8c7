"""Layers by number of spatial axes, and the number of groups of a norm."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from reticent.models.complex_norm import ComplexGroupNorm

NORMS = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.LocalResponseNorm, _NormBase, ComplexGroupNorm)
CONV = {2: nn.Conv2d, 3: nn.Conv3d}
MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
MEAN_POOL = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
TO_CELLS = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
MAX_TO_CELLS = {2: nn.AdaptiveMaxPool2d, 3: nn.AdaptiveMaxPool3d}


def group_norm(most: int, channels: int) -> nn.GroupNorm:
    """GroupNorm of as many groups as divide the channels, at most `most`."""
    return nn.GroupNorm(number_of_groups(most, channels), channels)


def number_of_groups(most: int, channels: int) -> int:
    """The largest divisor of `channels` that is at most `most`."""
    return max(g for g in range(1, most + 1) if channels % g == 0)
