"""Which subjects to label next: the top of their scores, with noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reticent.errors import InputError
from reticent.training.noise import RandomSource, laplace_noise


def subject_scores(scores: ArrayLike, subjects: Sequence[int]) -> NDArray[np.float64]:
    """The mean score of each subject's records: one number for a subject, in the range of a single score.

    Args:
        scores: of the records, (n,).
        subjects: number of each record's subject, 0, 1, ... without gaps.
    """
    counts = np.bincount(np.asarray(subjects, dtype=np.intp))
    return np.bincount(np.asarray(subjects, dtype=np.intp), np.asarray(scores, dtype=np.float64)) / counts


def private_top_k(
    scores: ArrayLike, k: int, epsilon: float, value_range: float, source: RandomSource, *, largest: bool = True
) -> list[int]:
    r"""Indices of the k subjects with the best scores after Laplace noise, best first.

    Every subject's score s is released as s + Laplace(value_range / epsilon), and the choice reads nothing else: it is
    epsilon-DP for each subject of the pool, whose data only its own score depends on, chosen or not. Compared are pools
    in which one subject's score is replaced by any other in the range: of a pool of known size, that subject's data
    against others or none. Scores are cut to [0, value_range] first, and one that is not a number counts as 0.

    Args:
        scores: one for each subject, (n,); see `subject_scores` for several records.
        epsilon: of this round, > 0; the mechanism is `Laplace(noise_multiplier=1 / epsilon)`.
        largest: take the largest scores, else the smallest.

    Raises:
        InputError: k is not between 1 and n, or epsilon or the range is not positive and finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    _require_choice(k, len(values))
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise InputError(
            f"selection by scores with an epsilon of {epsilon:g} is not private; give one above 0, or select at random"
        )
    if not (math.isfinite(value_range) and value_range > 0):
        raise InputError(f"value_range is {value_range:g}; give the largest score that there can be")
    bounded = np.clip(np.nan_to_num(values, nan=0.0), 0.0, value_range)
    noised = bounded + laplace_noise(len(values), value_range / epsilon, source)
    return np.argsort(-noised if largest else noised, kind="stable")[:k].tolist()


def random_k(count: int, k: int, source: RandomSource) -> list[int]:
    """Indices of k of `count` subjects, every choice equally likely; it reads no data and costs nothing.

    Raises:
        InputError: k is not between 1 and `count`.
    """
    _require_choice(k, count)
    return np.argsort(source.words(count), kind="stable")[:k].tolist()


def _require_choice(k: int, count: int) -> None:
    if not 1 <= k <= count:
        raise InputError(f"{k} subjects to select out of {count}; select between 1 and as many as the pool has")
