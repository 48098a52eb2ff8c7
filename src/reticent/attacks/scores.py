"""Scores of an attack: one number for each candidate, higher for what looks like a member."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reticent.errors import InputError

Array = NDArray[np.float64]


def require_scores(scores: ArrayLike) -> Array:
    """Scores along one axis; infinite ones are fine.

    Raises:
        InputError: one is NaN.
    """
    values = np.asarray(scores, np.float64).ravel()
    if np.isnan(values).any():
        raise InputError("a score is NaN; scores are numbers, higher for what looks like a member")
    return values
