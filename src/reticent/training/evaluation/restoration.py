"""How well hidden parts of held-out patients' images are restored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from reticent.errors import InputError
from reticent.records import Measured, SplitMetrics
from reticent.training.evaluation.bootstrap import measure
from reticent.training.evaluation.groups import attribute_groups
from reticent.training.evaluation.statistics import Floats, mean


def evaluate_restoration(
    squares: Floats, variances: Floats, subjects: Sequence[str], attributes: Sequence[Mapping[str, str]], split: str
) -> SplitMetrics:
    """Metrics of one split, overall and by attribute, with intervals by bootstrap over subjects.

    | metric | |
    |---|---|
    | mse | mean squared error of the hidden pixels, as they come out of pre-processing |
    | r2 | 1 - mse / mean variance: 0 is what the mean of each image's own hidden pixels gives |

    Args:
        squares: mean squared error of each record, (n,).
        variances: variance of each record's hidden pixels, (n,).

    Raises:
        InputError: an error is not finite.
    """
    if not np.isfinite(squares).all():
        raise InputError(
            f"split {split!r}: the restored images are not finite for {int((~np.isfinite(squares)).sum())} of "
            f"{len(subjects)} records; training diverged, lower --learning-rate"
        )
    return SplitMetrics(
        split=split,
        subjects=len(set(subjects)),
        records=len(subjects),
        metrics=_metrics(squares, variances, subjects),
        groups=tuple(
            attribute_groups(subjects, attributes, lambda rows, who: _metrics(squares[rows], variances[rows], who))
        ),
    )


def _metrics(squares: Floats, variances: Floats, subjects: Sequence[str]) -> dict[str, Measured]:
    def explained(weights: Floats) -> Floats:
        least = mean(variances)(weights)
        return np.where(least > 0, 1 - mean(squares)(weights) / np.where(least > 0, least, 1), np.nan)

    return measure({"r2": explained, "mse": mean(squares)}, subjects)
