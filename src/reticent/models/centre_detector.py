"""The default detector: where the centre of each object is, and how large it is; no anchors, GroupNorm throughout."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reticent.errors import InputError
from reticent.models.layers import group_norm

STRIDE = 4
_FEW = -3.0
"""First logit of the heat maps: nearly everywhere there is no centre."""


def _conv(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        group_norm(8, out_channels),
        nn.ReLU(),
    )


class CentreDetector(nn.Module):
    """Maps (n, out_channels, ceil(H / 4), ceil(W / 4)) for images (n, C, H, W).

    Channels are a heat map (logits) for each of the `out_channels` - 4 classes, then log width, log height and the
    offsets of x and y of the object whose centre lies in the cell, in cells (see `training.centre_maps`). Features of
    strides 4, 8 and 16 are added from coarse to fine, as in a feature pyramid (Lin et al. 2017).

    Raises:
        InputError: images are volumes.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, width: int = 64) -> None:
        super().__init__()
        if spatial_dims != 2:
            raise InputError("model 'centre-detector' finds boxes in images, and these are volumes")
        w = width
        self.fine = nn.Sequential(_conv(in_channels, w // 4, stride=2), _conv(w // 4, w // 2, stride=2))
        self.middle = _conv(w // 2, w, stride=2)
        self.coarse = _conv(w, w, stride=2)
        self.lateral = nn.ModuleList([nn.Conv2d(w, w, 1), nn.Conv2d(w // 2, w, 1)])
        self.join = nn.ModuleList([_conv(w, w), _conv(w, w)])
        self.neck = _conv(w, w)
        self.head = nn.Conv2d(w, out_channels, 1)
        first = torch.tensor([_FEW] * (out_channels - 4) + [0.0] * 4)
        self.head.bias = nn.Parameter(first)

    def forward(self, image: Tensor) -> Tensor:
        fine = self.fine(image)
        middle = self.middle(fine)
        x = self.coarse(middle)
        for skip, lateral, join in zip((middle, fine), self.lateral, self.join, strict=True):
            x = join(F.interpolate(x, size=skip.shape[-2:], mode="nearest") + lateral(skip))
        return self.head(self.neck(x))
