"""Class weights from class counts that were bought with noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from reticent.training.noise import RandomSource, gaussian_noise


def counted_weights(
    labels: Sequence[Sequence[int]], n_classes: int, noise_multiplier: float, source: RandomSource
) -> tuple[float, ...]:
    """Weights proportional to 1 / noised class count, with mean 1 over the classes.

    Each subject adds the distribution of its records' classes, a vector of L2 norm at most 1, so that Gaussian noise of
    standard deviation `noise_multiplier` makes the counts a Gaussian mechanism of that multiplier.

    Args:
        labels: class indices of each training subject's labelled records.
    """
    counts = torch.zeros(n_classes, dtype=torch.float64)
    for own in labels:
        counts += torch.from_numpy(np.bincount(own, minlength=n_classes) / len(own))
    noised = counts + gaussian_noise(counts, noise_multiplier, source)
    inverse = 1 / noised.clamp(min=noise_multiplier)
    return tuple((inverse / inverse.mean()).tolist())
