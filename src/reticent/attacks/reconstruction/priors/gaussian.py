"""The closed-form prior: images as normal vectors, and Wiener's filter in their principal components."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reticent.attacks.reconstruction.priors.prior import require_images


@dataclass(frozen=True)
class GaussianPrior:
    r"""Normal with mean m and covariance :math:`V \mathrm{diag}(e) V^T + e_0 (I - V V^T)`.

    The estimate of least squared error is m plus each component of y - m times e / (e + s^2), for noise of standard
    deviation s. Its expected squared error is the mean over components of e s^2 / (e + s^2).
    """

    mean: Tensor
    components: Tensor
    """V, (pixels, k), float64."""
    variances: Tensor
    """e, (k,)."""
    rest: float
    """e_0: variance of every other direction."""
    source: str = ""

    @classmethod
    def fit(cls, images: Tensor, source: str = "") -> GaussianPrior:
        """Mean and covariance of images (n, C, ...) in [0, 1], shrunk as Ledoit and Wolf (2004) do.

        Raises:
            InputError: there are fewer than two images, or not in [0, 1].
        """
        require_images(images, 2)
        mean = images.double().mean(0)
        rows = images.double().flatten(1) - mean.flatten()
        count, pixels = rows.shape
        _, singular, directions = torch.linalg.svd(rows, full_matrices=False)
        raw = singular.square() / count
        kept = raw > 1e-12 * raw.max().clamp_min(1e-300)
        level, squares = float(raw.sum()) / pixels, float(raw.square().sum())
        wanted = squares - pixels * level**2
        spread = float(rows.square().sum(1).square().sum()) / count**2 - squares / count
        shrinkage = min(1.0, max(0.0, spread / wanted)) if wanted > 0 else 0.0
        return cls(mean, directions[kept].T, (1 - shrinkage) * raw[kept] + shrinkage * level, shrinkage * level, source)

    def denoise(self, seen: Tensor, noise_std: Tensor) -> Tensor:
        """See `Prior`."""
        off = seen.double().flatten(1) - self.mean.flatten()
        noise = noise_std.double().square()[:, None]
        inside = off @ self.components
        rest = _gain(torch.tensor([[self.rest]], dtype=torch.float64), noise)
        found = inside * (_gain(self.variances, noise) - rest) @ self.components.T + rest * off
        return (self.mean + found.reshape(seen.shape)).to(seen)

    def expected_mse(self, noise_std: float) -> float:
        """Of the estimate, for images that follow this prior."""
        noise, pixels = noise_std**2, self.components.shape[0]
        known = float((self.variances * noise / (self.variances + noise)).sum())
        other = (pixels - len(self.variances)) * self.rest * noise / (self.rest + noise)
        return (known + other) / pixels


def _gain(variances: Tensor, noise: Tensor) -> Tensor:
    return torch.where(variances > 0, variances / (variances + noise).clamp_min(1e-300), 0.0)
