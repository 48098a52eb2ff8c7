"""The prior that has nothing but a heap of public images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reticent.attacks.reconstruction.priors.prior import require_images, shaped


@dataclass(frozen=True)
class EmpiricalPrior:
    """The public images themselves: the mean of them, weighted by how likely each is to have been seen as it was.

    Little noise: the most similar public image; much noise: their mean.
    """

    images: Tensor
    source: str = ""

    @classmethod
    def fit(cls, images: Tensor, source: str = "") -> EmpiricalPrior:
        """Keep the images (n, C, ...) in [0, 1]; raises InputError if there are none or they lie outside."""
        require_images(images, 1)
        return cls(images, source)

    @property
    def mean(self) -> Tensor:
        """See `Prior`."""
        return self.images.double().mean(0)

    def denoise(self, seen: Tensor, noise_std: Tensor) -> Tensor:
        """See `Prior`."""
        rows = self.images.double().flatten(1)
        distances = torch.cdist(seen.double().flatten(1), rows, compute_mode="donot_use_mm_for_euclid_dist").square()
        weights = (-distances / (2 * shaped(noise_std.double().square(), distances).clamp_min(1e-12))).softmax(1)
        return (weights @ rows).reshape(seen.shape).to(seen)
