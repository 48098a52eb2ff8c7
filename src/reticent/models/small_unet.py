"""The default segmenter: a three-level U-Net, GroupNorm after every join (ScaleNorm), no transposed convolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reticent.models.layers import CONV, MAX_POOL, group_norm


def _conv(ndim: int, in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        CONV[ndim](in_channels, out_channels, 3, padding=1, bias=False),
        group_norm(8, out_channels),
        nn.SELU(),
    )


class SmallUNet(nn.Module):
    """Logits (n, labels, ...) for images (n, C, ...) whose sides are multiples of 4.

    Skip connections are concatenated and normalised over the joined channels (ScaleNorm, Klause et al. 2022).
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, width: int = 8) -> None:
        super().__init__()
        d, w = spatial_dims, width
        self.down = nn.ModuleList([_conv(d, in_channels, w), _conv(d, w, 2 * w)])
        self.bottom = nn.Sequential(_conv(d, 2 * w, 4 * w), _conv(d, 4 * w, 4 * w))
        self.pool = MAX_POOL[d](2)
        self.grow = nn.Upsample(scale_factor=2, mode="nearest")
        self.join = nn.ModuleList([group_norm(8, c) for c in (6 * w, 3 * w)])
        self.up = nn.ModuleList([_conv(d, 6 * w, 2 * w), _conv(d, 3 * w, w)])
        self.head = CONV[d](w, out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        skips = []
        x = image
        for down in self.down:
            x = down(x)
            skips.append(x)
            x = self.pool(x)
        x = self.bottom(x)
        for join, up in zip(self.join, self.up, strict=True):
            x = up(join(torch.cat([self.grow(x), skips.pop()], 1)))
        return self.head(x)
