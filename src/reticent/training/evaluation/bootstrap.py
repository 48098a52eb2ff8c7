"""Percentile bootstrap over subjects: all records of a drawn subject are drawn together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from reticent.records import Measured
from reticent.training.evaluation.statistics import Floats, Statistic

RESAMPLES = 1000
CONFIDENCE = 0.95
_SEED = 1979  # fixed, so that the same predictions always give the same intervals; no privacy rests on it
_BLOCK_VALUES = 500_000


def measure(statistics: Mapping[str, Statistic], subjects: Sequence[str]) -> dict[str, Measured]:
    """Each statistic with its 95 % interval from 1000 resamples of the subjects.

    The interval is taken over the resamples in which the statistic is defined. It has no width where all records
    are decided rightly (or all wrongly), and there is none for a single subject.

    Source: Efron & Tibshirani 1993, section 13.3; clustered by subject as in Field & Welsh 2007.
    """
    everything = np.ones((len(subjects), 1))
    points = {name: float(statistic(everything)[0]) for name, statistic in statistics.items()}
    drawn: dict[str, list[Floats]] = {name: [] for name, value in points.items() if not np.isnan(value)}
    for weights in _resamples(subjects):
        for name, values in drawn.items():
            values.append(statistics[name](weights))
    return {name: _measured(value, drawn.get(name, [])) for name, value in points.items()}


def _measured(point: float, drawn: list[Floats]) -> Measured:
    if np.isnan(point):
        return Measured(value=None)
    if not drawn:
        return Measured(value=point)
    tail = (1 - CONFIDENCE) / 2
    lower, upper = np.nanquantile(np.concatenate(drawn), [tail, 1 - tail])
    return Measured(value=point, lower=float(lower), upper=float(upper))


def _resamples(subjects: Sequence[str]) -> Iterator[Floats]:
    """Weights of the records, shape (n_records, block): how often each record's subject was drawn."""
    names, codes = np.unique(np.asarray(subjects, dtype=object), return_inverse=True)
    if len(names) < 2:
        return
    generator = np.random.default_rng(_SEED)
    block = min(RESAMPLES, max(1, _BLOCK_VALUES // len(subjects)))
    for start in range(0, RESAMPLES, block):
        width = min(block, RESAMPLES - start)
        drawn = generator.integers(len(names), size=(width, len(names))) + len(names) * np.arange(width)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=width * len(names)).reshape(width, len(names))
        yield counts.T[codes].astype(float)
