"""The default classifier: dense connections, max-pooling before GroupNorm, SELU (SmoothNet's parts for DP)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reticent.models.layers import MAX_POOL, TO_CELLS
from reticent.models.smoothnet import block


class SmoothClassifier(nn.Module):
    """Small dense network for images of (C, H, W) or volumes of (C, D, H, W); returns logits (n, outputs).

    Halving blocks bring the longest side to at most 16; two dense stages of two blocks follow; the head sees a grid of
    3 cells per axis (2 in volumes), so every input size of at least 8 works.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, image_size: Sequence[int], width: int = 16
    ) -> None:
        super().__init__()
        halvings = max(1, math.ceil(math.log2(max(image_size) / 16)))
        channels = [in_channels] + [width] * halvings
        self.stem = nn.Sequential(*(block(spatial_dims, a, b, halve=True) for a, b in itertools.pairwise(channels)))
        self.first = nn.ModuleList(block(spatial_dims, width * k, width) for k in (1, 2))
        self.pool = MAX_POOL[spatial_dims](2)
        self.second = nn.ModuleList(block(spatial_dims, width * k, 2 * width) for k in (3, 5))
        cells = 3 if spatial_dims == 2 else 2
        self.head = nn.Sequential(
            TO_CELLS[spatial_dims](cells), nn.Flatten(), nn.Linear(7 * width * cells**spatial_dims, out_channels)
        )

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        for dense in self.first:
            x = torch.cat([x, dense(x)], 1)
        x = self.pool(x)
        for dense in self.second:
            x = torch.cat([x, dense(x)], 1)
        return self.head(x)
