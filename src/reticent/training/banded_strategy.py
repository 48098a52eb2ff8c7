"""The banded matrix that correlates the noise of a run's steps. Public values only."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.signal import lfilter

Vector = NDArray[np.float64]


@lru_cache
def strategy_coefficients(steps: int, bands: int) -> tuple[float, ...]:
    r"""The coefficients :math:`c_0, \dots, c_{b-1}` of a banded Toeplitz matrix, of Euclidean norm 1.

    They minimise, over lower-triangular Toeplitz matrices T with b bands and columns of norm at most 1, the mean over
    the steps of the variance of the prefix sums' noise, :math:`\|A T^{-1}\|_F^2 / n` with A the n x n lower-triangular
    matrix of ones (McKenna 2024). The search starts at the matrix square root of A cut to b bands,
    :math:`c_k = \binom{2k}{k} / 4^k` (Fichtenberger et al. 2022), and is deterministic. Privacy rests on their norm
    alone, not on how near they are to the minimum.

    Args:
        steps: n >= b.
        bands: b >= 1; with one band, T is the identity.
    """
    lags = np.arange(1, bands)
    tail: Vector = np.cumprod((2 * lags - 1) / (2 * lags), dtype=np.float64)
    if bands > 1:
        found = minimize(_log_error, tail, args=(steps,), jac=True, method="L-BFGS-B", options={"ftol": 1e-14})
        tail = min((tail, found.x), key=lambda candidate: _log_error(candidate, steps)[0])
    coefficients = np.concatenate([[1.0], tail])
    return tuple(float(c) for c in coefficients / np.linalg.norm(coefficients))


def column_norm(coefficients: tuple[float, ...], steps_left: int) -> float:
    """Norm of a column of T whose step is followed by `steps_left` - 1 others: 1 unless the run's end cuts it."""
    return float(np.linalg.norm(coefficients[:steps_left])) if steps_left < len(coefficients) else 1.0


def _log_error(tail: Vector, steps: int) -> tuple[float, Vector]:
    """Logarithm of ||T||_{1,2}^2 ||A T^-1||_F^2 / n for coefficients (1, *tail), and its gradient in `tail`.

    A T^-1 is Toeplitz too; its column is beta = T^-1 1, and d beta / d c_j = -(T^-1 beta) shifted by j.
    """
    coefficients = np.concatenate([[1.0], tail])
    with np.errstate(over="ignore", invalid="ignore"):
        beta = lfilter([1.0], coefficients, np.ones(steps))
        gamma = lfilter([1.0], coefficients, beta)
        weighted = beta * np.arange(steps, 0, -1) / steps
        error = float(weighted @ beta)
        slopes = np.array([-2 * (weighted[j:] @ gamma[: steps - j]) for j in range(1, len(coefficients))])
    if not (np.isfinite(error) and np.isfinite(slopes).all()):
        return 1e300, np.zeros_like(tail)  # T^-1 grows beyond all bounds: the line search steps back
    norm = float(coefficients @ coefficients)
    return float(np.log(norm * error)), 2 * tail / norm + slopes / error
