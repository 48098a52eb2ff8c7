"""The best linear attack from scratch (Riess et al. 2024, arXiv 2402.12861), through the product's private step.

A layer without bias whose gradient rows are all the image itself, with the sum of its outputs as loss: the noisy sum is
the image plus Gaussian noise. What remains of the image follows the laws of `accounting.FromScratchAttack`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from reticent.accounting import FromScratchAttack
from reticent.attacks.reconstruction.observed import Defence, observed_gradient
from reticent.attacks.reconstruction.scores import mse
from reticent.errors import InputError
from reticent.training.noise import RandomSource

_MOST_ROWS = 1024
Observe = Callable[[nn.Module, Tensor], Tensor]
"""From the network and one image (1, C, ...) to the noisy sum of the gradient of the weight, (rows, pixels)."""


@dataclass(frozen=True)
class LinearAttack:
    """Images and what two attackers made of them; both know each image's norm. All (n, C, ...)."""

    images: Tensor
    unbiased: Tensor
    """The mean of the gradient's rows, clipping undone."""
    shrunk: Tensor
    """The same times r^2 / (r^2 + N v)."""
    laws: tuple[FromScratchAttack, ...]
    """Of the unbiased attack on each image."""

    @cached_property
    def p_value(self) -> float:
        """Kolmogorov-Smirnov test of the unbiased attack's errors against the gamma law."""
        return self._test(self.unbiased, "unbiased")

    @cached_property
    def shrinkage_p_value(self) -> float:
        """The same of shrinkage, against its noncentral chi-squared law."""
        return self._test(self.shrunk, "shrinkage")

    def _test(self, reconstructions: Tensor, estimator: Any) -> float:
        """Each error, as its probability under its own image's law, is uniform if the law holds."""
        places = []
        for law, error in zip(self.laws, mse(self.images, reconstructions).tolist(), strict=True):
            own = FromScratchAttack(
                law.n_dims, law.noise_multiplier, law.record_norm, observations=law.observations,
                estimator=estimator, rows=law.rows, max_norm=law.max_norm,
            )  # fmt: skip
            places.append(own.mse_cdf(error))
        return float(stats.kstest(places, "uniform").pvalue)


def optimal_linear_attack(
    images: Tensor,
    defence: Defence,
    source: RandomSource,
    *,
    rows: int | None = None,
    observations: int = 1,
    observe: Observe | None = None,
) -> LinearAttack:
    """Attack each image alone in its batch, in `observations` steps that the attacker knows it is in.

    Args:
        images: (n, C, ...), in the units that the network is fed.
        rows: of the attacker's layer; None: as many as make clipping bite on every image, (C / r)^2, at most 1024.
        observe: what runs a step; None: `observed_gradient`.

    Raises:
        InputError: there is no noise, under which every image is exact and nothing is to be tested.
    """
    if not defence.noise_std or defence.max_norm is None:
        raise InputError("the attack's law is about noise: give max_norm and noise_multiplier")
    bound = defence.max_norm
    norms = images.double().flatten(1).norm(dim=1).clamp_min(1e-6 * bound)  # an image of zeros has a law too
    rows = rows or min(_MOST_ROWS, int(np.ceil((bound / float(norms.min())) ** 2)))
    layer = nn.Linear(images[0].numel(), rows, bias=False)

    def released(network: nn.Module, image: Tensor) -> Tensor:
        return observed_gradient(network, _sum_of_outputs, {"image": image}, defence, source)["weight"]

    observe = observe or released
    found, laws = [], []
    for image, norm in zip(images, norms.tolist(), strict=True):
        seen = torch.stack([observe(layer, image[None]).double().mean(0) for _ in range(observations)]).mean(0)
        found.append(seen * max(1.0, norm * rows**0.5 / bound))
        laws.append(
            FromScratchAttack(
                image.numel(), defence.noise_multiplier, norm, observations=observations, rows=rows, max_norm=bound
            )
        )
    unbiased = torch.stack(found).reshape(images.shape)
    factors = torch.tensor(
        [law.record_norm**2 / (law.record_norm**2 + law.n_dims * law.noise_variance) for law in laws]
    )
    return LinearAttack(images, unbiased, unbiased * factors.reshape(-1, *[1] * (images.ndim - 1)), tuple(laws))


def _sum_of_outputs(model: nn.Module, batch: Any) -> Tensor:
    outputs: Tensor = model(batch["image"].flatten(1)).sum(1)
    return outputs
