"""A complex-valued classifier of images, in k-space or not (after Riess et al. 2024)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reticent.errors import InputError
from reticent.models.complex_activations import ConjMish, LogMagnitude
from reticent.models.complex_layers import Magnitude, initialise_complex
from reticent.models.complex_norm import ComplexGroupNorm
from reticent.models.complex_pooling import PerPart
from reticent.models.kspace import kspace
from reticent.models.layers import CONV, MEAN_POOL, TO_CELLS, number_of_groups

_CELLS = 3
_DOMAINS = ("kspace", "image")


class ComplexClassifier(nn.Module):
    """Real logits (n, out_channels) for images (n, C, H, W) or volumes (n, C, D, H, W), real or complex.

    Complex convolutions of 3, ComplexGroupNorm, ConjMish and average pooling bring the longest side to at most 8; one
    more convolution follows. The head is linear, on the magnitudes of a grid of 3 cells an axis.

    Args:
        domain: "kspace" takes the Fourier transform k of its input first, with log(1 + |k|) as magnitudes; "image" its
            input as it is: real images without imaginary part, or data that are complex already.
        width: complex channels of the first layers; the last two have 2 and 4 times as many.
        groups: of the norms, at most; as many as divide the channels.

    Raises:
        InputError: there is no such domain.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        image_size: Sequence[int],
        width: int = 16,
        domain: str = "kspace",
        groups: int = 8,
    ) -> None:
        super().__init__()
        if domain not in _DOMAINS:
            raise InputError(f"domain={domain!r} is not known; use {' or '.join(_DOMAINS)}")
        self.domain, self.compress, d = domain, LogMagnitude(), spatial_dims
        halvings = max(1, math.ceil(math.log2(max(image_size) / 8)))
        channels = [in_channels, *[width] * (halvings - 1), 2 * width]
        blocks = [
            layer
            for a, b in itertools.pairwise(channels)
            for layer in (*_block(d, a, b, groups), PerPart(MEAN_POOL[d](2)))
        ]
        self.features = nn.Sequential(*blocks, *_block(d, 2 * width, 4 * width, groups))
        self.cells = nn.Sequential(PerPart(TO_CELLS[d](_CELLS)), Magnitude(), nn.Flatten())
        self.head = nn.Linear(4 * width * _CELLS**d, out_channels)
        initialise_complex(self)

    def forward(self, image: Tensor) -> Tensor:
        z = self.compress(kspace(image)) if self.domain == "kspace" else image
        z = z if z.is_complex() else torch.complex(z, torch.zeros_like(z))
        return self.head(self.cells(self.features(z)))


def _block(ndim: int, in_channels: int, out_channels: int, groups: int) -> list[nn.Module]:
    conv = CONV[ndim](in_channels, out_channels, 3, padding=1, bias=False, dtype=torch.complex64)
    norm = ComplexGroupNorm(number_of_groups(groups, out_channels), out_channels)
    return [conv, norm, ConjMish()]
