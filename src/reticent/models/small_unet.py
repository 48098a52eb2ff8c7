"""The default segmenter, a three-level U-Net with GroupNorm after every join (ScaleNorm), and a classifier like it."""

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


def _encoder(ndim: int, in_channels: int, width: int) -> tuple[nn.ModuleList, nn.Sequential, nn.Module]:
    """The way down, what follows at the lowest level, and the pooling between levels."""
    down = nn.ModuleList([_conv(ndim, in_channels, width), _conv(ndim, width, 2 * width)])
    bottom = nn.Sequential(_conv(ndim, 2 * width, 4 * width), _conv(ndim, 4 * width, 4 * width))
    return down, bottom, MAX_POOL[ndim](2)


class SmallUNet(nn.Module):
    """Logits (n, labels, ...) for images (n, C, ...) whose sides are multiples of 4.

    Skip connections are concatenated and normalised over the joined channels (ScaleNorm, Klause et al. 2022).
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, width: int = 8) -> None:
        super().__init__()
        d, w = spatial_dims, width
        self.down, self.bottom, self.pool = _encoder(d, in_channels, w)
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


class UNetClassifier(nn.Module):
    """Logits (n, out_channels) for images (n, C, ...): a `SmallUNet`'s way down, and a linear head on pooled features.

    Encoder weights have the names and shapes that they have in a `SmallUNet` of the same width, so that those of a
    segmenter can be the first ones. The head sees mean and maximum over the image of every feature of the lowest level.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, width: int = 8) -> None:
        super().__init__()
        self.down, self.bottom, self.pool = _encoder(spatial_dims, in_channels, width)
        self.head = nn.Linear(8 * width, out_channels)

    def forward(self, image: Tensor) -> Tensor:
        x = image
        for down in self.down:
            x = self.pool(down(x))
        features = self.bottom(x).flatten(2)
        return self.head(torch.cat([features.mean(2), features.amax(2)], 1))
