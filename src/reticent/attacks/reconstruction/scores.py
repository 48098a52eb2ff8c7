"""How alike two images are, image by image. Images are float tensors (n, C, H, W) or (n, C, D, H, W)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from reticent.errors import InputError

Metric = Literal["MSE", "PSNR", "SSIM", "MS-SSIM", "NCC"]
PERFECT_DB = 120.0
"""PSNR is cut off here: single precision tells no smaller errors apart."""
_WINDOW, _DEVIATION = 11, 1.5
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def mse(images: Tensor, others: Tensor) -> Tensor:
    """Mean squared error of each pair, shape (n,)."""
    return (images.double() - others.double()).square().flatten(1).mean(1)


def psnr(images: Tensor, others: Tensor, data_range: float = 1.0) -> Tensor:
    """10 log10(data_range^2 / MSE) in dB, at most `PERFECT_DB`."""
    return (20 * math.log10(data_range) - 10 * mse(images, others).log10()).clamp(max=PERFECT_DB)


def ssim(images: Tensor, others: Tensor, data_range: float = 1.0) -> Tensor:
    """Structural similarity (Wang et al. 2004) in a Gaussian window of 11 pixels, sd 1.5, without padding.

    The mean over the positions at which the window fits; on a side of less than 11 pixels it is as wide as the largest
    odd number that fits. 1 for equal images.
    """
    from monai.metrics.regression import compute_ssim_and_cs  # imported here: MONAI takes seconds

    window = [min(_WINDOW, side - 1 + side % 2) for side in images.shape[2:]]
    similar, _ = compute_ssim_and_cs(
        images.float(), others.float(), images.ndim - 2, window, [_DEVIATION] * len(window), data_range
    )
    return similar.flatten(1).mean(1)


def ms_ssim(images: Tensor, others: Tensor, data_range: float = 1.0) -> Tensor:
    """SSIM over as many of the five scales of Wang et al. (2003) as fit, their weights made to sum to 1.

    Raises:
        InputError: a side has fewer than 11 pixels.
    """
    from monai.metrics.regression import compute_ms_ssim

    smallest = min(images.shape[2:])
    fitting = [n for n in range(1, 6) if min(smallest >> (n - 1), smallest // max(1, n - 1) ** 2) >= _WINDOW]
    if not fitting:
        raise InputError(f"MS-SSIM needs images of at least {_WINDOW} pixels a side, these have {smallest}; use SSIM")
    weights = [w / sum(_SCALES[: fitting[-1]]) for w in _SCALES[: fitting[-1]]]
    return compute_ms_ssim(
        images.float(), others.float(), images.ndim - 2, data_range, weights=weights
    ).flatten()  # fmt: skip


def ncc(images: Tensor, others: Tensor) -> Tensor:
    """Normalised cross-correlation, -1 to 1: the correlation over an image's pixels; 0 if one image is constant."""
    one, other = (_centred(x) for x in (images, others))
    return (one * other).sum(1)


def score(metric: Metric, images: Tensor, others: Tensor, data_range: float = 1.0) -> Tensor:
    """One of the metrics by name, shape (n,)."""
    ranged: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"PSNR": psnr, "SSIM": ssim, "MS-SSIM": ms_ssim}
    if metric in ranged:
        return ranged[metric](images, others, data_range).double()
    return (mse if metric == "MSE" else ncc)(images, others)


def cost(metric: Metric, scores: Tensor) -> Tensor:
    """The scores as something of which less is better."""
    return scores if metric == "MSE" else -scores


def pairwise(metric: Metric, images: Tensor, others: Tensor, data_range: float = 1.0) -> Tensor:
    """The metric of every pair, shape (n, m)."""
    if metric == "NCC":
        return _centred(images) @ _centred(others).T
    if metric in ("MSE", "PSNR"):
        distance = torch.cdist(
            images.double().flatten(1), others.double().flatten(1), compute_mode="donot_use_mm_for_euclid_dist"
        )
        errors = distance.square() / images[0].numel()
        if metric == "MSE":
            return errors
        return (20 * math.log10(data_range) - 10 * errors.log10()).clamp(max=PERFECT_DB)
    rows = [score(metric, image.expand_as(others), others, data_range) for image in images]
    return torch.stack(rows)


def _centred(images: Tensor) -> Tensor:
    flat = images.double().flatten(1)
    constant = flat.amax(1, keepdim=True) == flat.amin(1, keepdim=True)
    flat = flat - flat.mean(1, keepdim=True)
    return torch.where(constant, 0.0, flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-300))
