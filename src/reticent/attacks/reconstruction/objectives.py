"""How far the gradient of a candidate lies from the gradient that was seen, and how rough a candidate is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Gradient = Sequence[Tensor]
Objective = Callable[[Gradient, Gradient], Tensor]


def cosine(found: Gradient, seen: Gradient) -> Tensor:
    """One minus the cosine over all parameters together (Geiping et al. 2020)."""
    return 1 - _cosine(torch.cat([g.flatten() for g in found]), torch.cat([g.flatten() for g in seen]))


def layerwise_cosine(found: Gradient, seen: Gradient) -> Tensor:
    """The mean over parameter tensors of one minus their cosine: small layers count as much as large ones."""
    return torch.stack([1 - _cosine(f.flatten(), s.flatten()) for f, s in zip(found, seen, strict=True)]).mean()


def squared(found: Gradient, seen: Gradient) -> Tensor:
    """The squared distance (Zhu et al. 2019)."""
    return torch.stack([(f - s).square().sum() for f, s in zip(found, seen, strict=True)]).sum()


def likelihood(noise_std: float) -> Objective:
    """The negative log-likelihood of the seen sum under Gaussian noise of that standard deviation, up to a constant."""
    return lambda found, seen: squared(found, seen) / (2 * noise_std**2)


def total_variation(images: Tensor) -> Tensor:
    """Mean over images and axes of the absolute difference between neighbouring pixels."""
    differences = [images.diff(dim=axis).abs().mean() for axis in range(2, images.ndim) if images.shape[axis] > 1]
    return torch.stack(differences).mean()


def _cosine(one: Tensor, other: Tensor) -> Tensor:
    return F.cosine_similarity(one, other, dim=0, eps=1e-20)
