"""Whether the noise that was added is the noise that is accounted for: in every tensor, and fresh at every step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm


@dataclass(frozen=True)
class NoiseLaw:
    """Standard deviation of the noise in units of what is accounted for, in the tensor where it is oddest."""

    ratio: float
    interval: tuple[float, float]
    """Of the ratio, right for all tensors at once at the confidence asked for."""
    tensor: int
    correlation: float
    """Of each value with that of the step before, over all tensors."""
    p_value: float
    """Of independent Gaussian noise of the right size, corrected for the tests of all tensors and of correlation."""


def noise_law(sums: NDArray[np.float64], confidence: float = 0.95) -> NoiseLaw:
    """Tests the noise of a training.

    Args:
        sums: by tensor, (tensors, 3): values, and the sums of their squares and of their products with the step before,
            see `Watch.noise`.
    """
    count, squares, products = sums.T
    p_values = np.minimum(1.0, 2 * np.minimum(chi2.cdf(squares, count), chi2.sf(squares, count)))
    oddest = int(np.lexsort((-np.abs(squares / count - 1), p_values))[0])
    correlation = float(products.sum() / count.sum())
    repeated = 2 * float(norm.sf(abs(products.sum()) / np.sqrt(count.sum())))
    p_value = min(1.0, 2 * min(len(count) * float(p_values[oddest]), repeated))
    tail = (1 - confidence) / 2 / len(count)
    ends = squares[oddest] / chi2.isf([tail, 1 - tail], count[oddest])
    ratio, low, high = np.sqrt([squares[oddest] / count[oddest], *ends]).tolist()
    return NoiseLaw(ratio, (low, high), oddest, correlation, p_value)
