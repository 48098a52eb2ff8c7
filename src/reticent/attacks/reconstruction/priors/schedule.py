"""The noise of a diffusion model: its levels, and the ways from one of them back to a clean image."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from reticent.attacks.reconstruction.priors.prior import Mode, shaped

LEVELS = 1000
_OFFSET, _LEAST, _MOST = 0.008, 1e-5, 1 - 1e-5

Clean = Callable[[Tensor, Tensor], Tensor]
"""From noisy images x_t (n, C, ...) and their levels t (n,) to what they are expected to be without noise."""


def signal_shares() -> Tensor:
    r"""Squared shares of signal :math:`\bar\alpha_t` of 1000 levels, a cosine schedule (Nichol and Dhariwal 2021)."""
    steps = torch.arange(LEVELS + 1, dtype=torch.float64) / LEVELS
    curve = ((steps + _OFFSET) / (1 + _OFFSET) * math.pi / 2).cos().square()
    return (curve[1:] / curve[0]).clamp(_LEAST, _MOST)


def matching_levels(noise_std: Tensor) -> Tensor:
    r"""The level t of which noise to signal is nearest `noise_std`, by the logarithm: (1 - a_t) / a_t = s^2.

    `noise_std` is that of images in [-1, 1]: twice that of [0, 1]. Shape (n,), LongTensor (n,).
    """
    shares = signal_shares()
    ratios = ((1 - shares) / shares).log()
    wanted = 2 * noise_std.double().clamp_min(1e-12).log()
    return (ratios[None] - wanted[:, None]).abs().argmin(1)


def denoised(
    seen: Tensor, noise_std: Tensor, clean: Clean, mode: Mode, steps: int, generator: torch.Generator | None = None
) -> Tensor:
    """Start at the level that matches the noise, and go to a clean image; all in [-1, 1].

    "mean": in one step, the estimate of least squared error. "ddim": Song et al. (2021) without noise, in `steps`
    levels. "sample": ancestral sampling (Ho et al. 2020), a draw from the posterior; `generator` draws it.
    """
    shares = signal_shares()
    first = matching_levels(noise_std)
    x = shaped(shares[first].sqrt(), seen) * seen
    if mode == "mean":
        return clean(x, first)
    path = (first[:, None] * torch.linspace(1, 0, steps, dtype=torch.float64)).round().long()
    for place in range(steps):
        level = path[:, place]
        here = shaped(shares[level], seen)
        end = place == steps - 1
        there = torch.ones_like(here) if end else shaped(shares[path[:, place + 1]], seen)
        found = clean(x, level)
        if end:
            return found
        x = _ddim(x, found, here, there) if mode == "ddim" else _ancestral(x, found, here, there, generator)
    raise AssertionError("a path has at least one level")


def _ddim(x: Tensor, found: Tensor, here: Tensor, there: Tensor) -> Tensor:
    noise = (x - here.sqrt() * found) / (1 - here).sqrt()
    return there.sqrt() * found + (1 - there).sqrt() * noise


def _ancestral(x: Tensor, found: Tensor, here: Tensor, there: Tensor, generator: torch.Generator | None) -> Tensor:
    step = here / there
    mean = (there.sqrt() * (1 - step) * found + step.sqrt() * (1 - there) * x) / (1 - here)
    std = ((1 - there) * (1 - step) / (1 - here)).clamp_min(0).sqrt()
    return mean + std * torch.randn(x.shape, generator=generator, dtype=x.dtype)
