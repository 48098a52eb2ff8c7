"""LiRA: how much likelier a record's signal is if the model was trained on it (Carlini et al. 2022)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from reticent.attacks.scores import Array

_ENOUGH = 32
"""References on either side from which a record's own spread is estimated; below, one spread serves all records."""
_SMALLEST = 1e-30


def lira_online(target: Array, references: Array, inside: NDArray[np.bool_]) -> Array:
    """Log-likelihood ratio of each record's signal under normal laws of references trained with and without it, (n,).

    Args:
        target: signals of the model under attack, (n,).
        references: signals of the reference models, (models, n).
        inside: which reference was trained on which record, (models, n); each record is in some and not in others.
    """
    with_it, without = (_law(references, chosen) for chosen in (inside, ~inside))
    return np.asarray(norm.logpdf(target, *with_it) - norm.logpdf(target, *without))


def lira_offline(target: Array, references: Array, inside: NDArray[np.bool_]) -> Array:
    """How far each signal lies above those of the references without the record, in their standard deviations, (n,).

    The published score is the normal distribution function of this, which rounds large ones to 1.
    """
    middle, spread = _law(references, ~inside)
    return (target - middle) / spread


def calibrated(target: Array, references: Array, inside: NDArray[np.bool_]) -> Array:
    """Signal less its mean over the references without the record (Watson et al. 2022), (n,)."""
    return np.asarray(target - np.mean(references, 0, where=~inside))


def _law(references: Array, chosen: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Median of each record's chosen references, and their standard deviation: its own if they are many."""
    kept = np.where(chosen, references, np.nan)
    middle = np.nanmedian(kept, 0)
    counts = chosen.sum(0)
    squares = np.nansum((kept - np.nanmean(kept, 0)) ** 2, 0)
    if counts.min() >= _ENOUGH:
        variance = squares / (counts - 1)
    elif counts.max() > 1:
        variance = np.full(len(middle), squares.sum() / np.maximum(counts - 1, 0).sum())
    else:
        variance = np.full(len(middle), np.nanvar(kept))
    return middle, np.sqrt(np.maximum(variance, _SMALLEST))
