"""Trap weights: neurons so rarely active that one image of a batch often is alone in one (Boenisch et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from reticent.attacks.reconstruction.implant import Implant, flat_public, layer_gradient

DEVIATION = 0.5
_RATES = (0.01, 0.02, 0.04, 0.07, 0.11, 0.16, 0.22, 0.29, 0.37, 0.45)
_BATCHES = 16


def trap(
    public: Tensor,
    neurons: int,
    batch: int,
    *,
    scale: float | None = None,
    norm: float = 1.0,
    seed: int = 0,
    **network: Any,
) -> Implant:
    """A layer of random rows in which half of the weights are -|z|, the other half `scale` |z|, z ~ N(0, 0.5^2).

    Weights act on intensities above the darkest public one, so that sums lean below zero by as much as `scale` is
    below 1. None: the scale at which most images of batches of public images would be alone in some neuron. (Were
    activations independent, n p (1 - p)^(n-1) would make a rate of 1/n best; bright images are active together, and
    images differ, so that the best rate is higher.)

    Args:
        public: (n, C, ...), in the units that the network is fed.
        batch: expected images a step.
        norm, network: see `Implant`.
    """
    flat = flat_public(public)
    generator = torch.Generator().manual_seed(seed)
    half = flat.shape[1] // 2
    sizes = (DEVIATION * torch.randn(neurons, half, generator=generator, dtype=torch.float64)).abs()
    order = torch.rand(neurons, flat.shape[1], generator=generator, dtype=torch.float64).argsort(1)
    below, above = (torch.zeros(neurons, flat.shape[1], dtype=torch.float64) for _ in range(2))
    below.scatter_(1, order[:, :half], sizes)
    above.scatter_(1, order[:, half : 2 * half], sizes)
    low = flat.min()
    if scale is None:
        light = (flat - low)[: _BATCHES * batch]
        scale = _best_scale(light @ above.T, light @ below.T, batch)
    weight = scale * above - below
    return Implant(weight, -low * weight.sum(1), public, norm, **network)


def read_rows(implant: Implant, gradient: Mapping[str, Tensor]) -> Tensor:
    """One candidate for each active neuron: row of the weight gradient over bias gradient; exact for one image."""
    return implant.images(*layer_gradient(gradient))


def activation_rate(implant: Implant, images: Tensor) -> float:
    """Share of pairs of image and neuron that are active."""
    with torch.no_grad():
        return float((implant.layer(images.float().flatten(1)) > 0).double().mean())


def _best_scale(above: Tensor, below: Tensor, batch: int) -> float:
    """The scale, by the activation rate it gives, that isolates most images; of equal ones the smallest."""
    threshold = below / above.clamp_min(1e-12)
    scales = torch.quantile(threshold.flatten()[: 2**23], torch.tensor(_RATES, dtype=torch.float64))
    shares = []
    for scale in scales:
        active = threshold < scale
        alone = [group[:, group.sum(0) == 1].any(1).double().mean() for group in active.split(batch)]
        shares.append(torch.stack(alone).mean())
    return float(scales[torch.stack(shares).argmax()])
