"""The imprint block: neurons that measure the same and differ in their threshold alone (Fowl et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from reticent.attacks.reconstruction.implant import Implant, flat_public, layer_gradient

Measurement = Literal["brightness", "random"]
_NONE = 1e-9


def imprint(
    public: Tensor, bins: int, measurement: Measurement = "brightness", norm: float = 1.0, **network: Any
) -> Implant:
    """A layer whose `bins` rows are one measurement v and whose thresholds are its quantiles on public images.

    Neuron i is active above threshold c_i, so that successive gradients differ by the images in bin i. Of n images
    n (1 - 1/k)^(n-1) are alone in theirs on average, if public images are distributed as they are.

    Args:
        public: (n, C, ...), in the units that the network is fed.
        measurement: mean brightness, or a random direction (of generator seed 0).
        norm, network: see `Implant`.
    """
    flat = flat_public(public)
    pixels = flat.shape[1]
    if measurement == "brightness":
        direction = torch.full((pixels,), 1 / pixels, dtype=torch.float64)
    else:
        direction = torch.randn(pixels, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / pixels
    measured = flat @ direction
    thresholds = torch.quantile(measured, torch.arange(bins, dtype=torch.float64) / bins)
    thresholds[0] = measured.min() - (measured.max() - measured.min())  # images below all public ones have a bin too
    return Implant(direction.expand(bins, -1), -thresholds, public, norm, **network)


def read_imprint(implant: Implant, gradient: Mapping[str, Tensor]) -> Tensor:
    """One candidate for each bin that holds something: (G_i - G_i+1) / (g_i - g_i+1); exact for a bin of one image."""
    weights, biases = layer_gradient(gradient)
    weights = weights - torch.cat([weights[1:], torch.zeros_like(weights[:1])])
    biases = biases - torch.cat([biases[1:], torch.zeros_like(biases[:1])])
    return implant.images(weights, torch.where(biases.abs() > _NONE * biases.abs().max(), biases, 0))


def alone_in_a_bin(images: int, bins: int) -> float:
    """Expected number of `images` that are alone in one of `bins` equally likely bins: n (1 - 1/k)^(n - 1)."""
    return images * (1 - 1 / bins) ** (images - 1)
