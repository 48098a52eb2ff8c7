"""How well numbers are predicted for held-out patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from reticent.errors import InputError
from reticent.records import GroupMetrics, Measured, SplitMetrics
from reticent.training.evaluation.bootstrap import measure
from reticent.training.evaluation.groups import attribute_groups, group
from reticent.training.evaluation.statistics import Floats, Statistic, mean

LIMITS = 1.96
"""Standard deviations from the bias within which 95 % of normal differences lie."""


def evaluate_regression(
    predicted: Floats,
    true: Floats,
    subjects: Sequence[str],
    attributes: Sequence[Mapping[str, str]],
    targets: Sequence[str],
    split: str,
) -> SplitMetrics:
    r"""Metrics of one split for every target, overall and by attribute, with intervals by bootstrap over subjects.

    With errors d = predicted - true in the target's unit:

    | metric | |
    |---|---|
    | r2 | :math:`1 - \sum d^2 / \sum (y - \bar y)^2`, with the mean of the split or group itself |
    | mae | mean of \|d\| |
    | bias | mean of d |
    | lower_limit, upper_limit | bias -/+ 1.96 standard deviations of d (Bland & Altman 1986) |

    A metric is called by target and name, as "vat_cm2 r2". Targets are never averaged: a mean would hide the worse one.
    The pooled r2 is larger than that within groups that differ in their means: read both.

    Args:
        predicted, true: (n, k), in the targets' units.
    Raises:
        InputError: a prediction is not finite.
    """
    if not np.isfinite(predicted).all():
        rows = int((~np.isfinite(predicted)).any(axis=1).sum())
        raise InputError(
            f"split {split!r}: the model's predictions are not finite for {rows} of {len(subjects)} records; "
            "training diverged, lower --learning-rate"
        )
    everyone = np.ones(len(subjects), dtype=bool)
    by_target = [
        group("class", name, subjects, everyone, partial(_of_target, predicted[:, k], true[:, k], subjects))
        for k, name in enumerate(targets)
    ]
    return SplitMetrics(
        split=split,
        subjects=len(set(subjects)),
        records=len(subjects),
        metrics=_metrics(predicted, true, subjects, targets),
        groups=(*by_target, *_by_attribute(predicted, true, subjects, attributes, targets)),
        curves={
            f"agreement {name}": tuple(zip(true[:, k].tolist(), predicted[:, k].tolist(), strict=True))
            for k, name in enumerate(targets)
        },
    )


def _by_attribute(
    predicted: Floats,
    true: Floats,
    subjects: Sequence[str],
    attributes: Sequence[Mapping[str, str]],
    targets: Sequence[str],
) -> list[GroupMetrics]:
    return attribute_groups(
        subjects, attributes, lambda rows, members: _metrics(predicted[rows], true[rows], members, targets)
    )


def _metrics(predicted: Floats, true: Floats, subjects: Sequence[str], targets: Sequence[str]) -> dict[str, Measured]:
    return {
        f"{name} {metric}": value
        for k, name in enumerate(targets)
        for metric, value in _of_target(predicted[:, k], true[:, k], subjects).items()
    }


def _of_target(predicted: Floats, true: Floats, subjects: Sequence[str]) -> dict[str, Measured]:
    errors = predicted - true
    statistics = {
        "r2": _r2(errors, true),
        "mae": mean(np.abs(errors)),
        "bias": mean(errors),
        "lower_limit": _limit(errors, -LIMITS),
        "upper_limit": _limit(errors, LIMITS),
    }
    return measure(statistics, subjects)


def _r2(errors: Floats, true: Floats) -> Statistic:
    square, centred = mean(errors**2), true - true.mean()  # centred first: a variance of large numbers loses digits

    def statistic(weights: Floats) -> Floats:
        variance = mean(centred**2)(weights) - mean(centred)(weights) ** 2
        defined = variance > 1e-12 * max(float(np.mean(centred**2)), np.finfo(float).tiny)
        return np.where(defined, 1 - square(weights) / np.where(defined, variance, 1), np.nan)

    return statistic


def _limit(errors: Floats, deviations: float) -> Statistic:
    """Bias plus so many standard deviations (with n - 1) of the errors."""
    centred = errors - errors.mean()

    def statistic(weights: Floats) -> Floats:
        count, middle = weights.sum(axis=0), mean(centred)(weights)
        variance = np.maximum(mean(centred**2)(weights) - middle**2, 0) * count / np.maximum(count - 1, 1)
        return errors.mean() + middle + deviations * np.sqrt(variance)

    return statistic
