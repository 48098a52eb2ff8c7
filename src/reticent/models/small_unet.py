"""The default segmenter, a three-level U-Net with GroupNorm after every join (ScaleNorm), and classifiers like it."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from reticent.errors import InputError
from reticent.models.layers import CONV, MAX_POOL, group_norm


def _conv(ndim: int, in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        CONV[ndim](in_channels, out_channels, 3, padding=1, bias=False),
        group_norm(8, out_channels),
        nn.SELU(),
    )


class _WayDown(nn.Module):
    """What U-Nets and classifiers like them share, under the same names, so that weights of one can start another."""

    def __init__(self, ndim: int, in_channels: int, width: int, levels: int) -> None:
        super().__init__()
        if levels < 2:
            raise InputError(f"levels = {levels}: a U-Net has 2 or more")
        self.channels = [width * 2**k for k in range(levels)]
        pairs = itertools.pairwise([in_channels, *self.channels[:-1]])
        self.down = nn.ModuleList([_conv(ndim, a, b) for a, b in pairs])
        a, b = self.channels[-2:]
        self.bottom = nn.Sequential(_conv(ndim, a, b), _conv(ndim, b, b))
        self.pool = MAX_POOL[ndim](2)

    def _descend(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features of the lowest level, and those of the levels above it."""
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
            x = self.pool(x)
        return self.bottom(x), skips


class _UNet(_WayDown):
    """And the way up."""

    def __init__(self, ndim: int, in_channels: int, width: int, levels: int) -> None:
        super().__init__(ndim, in_channels, width, levels)
        steps = list(itertools.pairwise(reversed(self.channels)))
        self.grow = nn.Upsample(scale_factor=2, mode="nearest")
        self.join = nn.ModuleList([group_norm(8, below + beside) for below, beside in steps])
        self.up = nn.ModuleList([_conv(ndim, below + beside, beside) for below, beside in steps])

    def _rise(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        """Features (n, width, ...) of every pixel."""
        for join, up in zip(self.join, self.up, strict=True):
            x = up(join(torch.cat([self.grow(x), skips.pop()], 1)))
        return x


class SmallUNet(_UNet):
    """Logits (n, labels, ...) for images (n, C, ...) whose sides are multiples of 2^(levels - 1).

    Skip connections are concatenated and normalised over the joined channels (ScaleNorm, Klause et al. 2022).
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, width: int = 8, levels: int = 3) -> None:
        super().__init__(spatial_dims, in_channels, width, levels)
        self.head = CONV[spatial_dims](width, out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self._rise(*self._descend(image)))


class UNetClassifier(_WayDown):
    """Logits (n, out_channels) for images (n, C, ...): a `SmallUNet`'s way down, and a linear head on pooled features.

    Encoder weights have the names and shapes that they have in a `SmallUNet` of the same width and levels, so that
    those of a segmenter can be the first ones. The head sees mean and maximum over the image of every feature of the
    lowest level: a lesion fills a small part of it.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, width: int = 8, levels: int = 3) -> None:
        super().__init__(spatial_dims, in_channels, width, levels)
        self.head = nn.Linear(2 * self.channels[-1], out_channels)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(_pooled(self._descend(image)[0]))


class GuidedUNet(_UNet):
    """A `UNetClassifier` that also draws: logits (n, out_channels), and of background and foreground (n, 2, ...).

    Both come from one encoder, so that masks, of which there are often more than labels, teach it where to look.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, width: int = 8, levels: int = 3) -> None:
        super().__init__(spatial_dims, in_channels, width, levels)
        self.mask_head = CONV[spatial_dims](width, 2, 1)
        self.head = nn.Linear(2 * self.channels[-1], out_channels)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        lowest, skips = self._descend(image)
        return self.head(_pooled(lowest)), self.mask_head(self._rise(lowest, skips))


def _pooled(features: Tensor) -> Tensor:
    """Mean and maximum of every feature over the image, (n, 2 C)."""
    flat = features.flatten(2)
    return torch.cat([flat.mean(2), flat.amax(2)], 1)
