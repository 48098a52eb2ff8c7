"""How well a classifier does on held-out patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reticent.errors import InputError
from reticent.records import GroupMetrics, Measured, SplitMetrics
from reticent.training.evaluation.bootstrap import measure
from reticent.training.evaluation.calibration import Reliability, reliability
from reticent.training.evaluation.groups import attribute_groups, group, rests_on_few
from reticent.training.evaluation.statistics import Flags, Floats, Statistic, auroc, macro, matthews, mean, share

Kind = Literal["binary", "multi-class", "multi-label"]
THRESHOLD = 0.5
"""Fixed and public; never chosen on the records."""
_ROC_POINTS = 200


def evaluate_classification(
    task: Kind,
    probabilities: NDArray[np.floating],
    targets: NDArray[np.integer],
    subjects: Sequence[str],
    attributes: Sequence[Mapping[str, str]],
    classes: Sequence[str],
    split: str,
) -> SplitMetrics:
    """Metrics of one split, by class and by attribute, with intervals by bootstrap over subjects.

    | metric | binary (positive class: 1) | multi-class | multi-label |
    |---|---|---|---|
    | auroc | of the positive class | mean of one class versus the rest | mean over labels |
    | sensitivity, specificity | at 0.5 | by class, largest probability | by label, at 0.5 |
    | balanced_accuracy | mean of the two | mean sensitivity of the classes | mean over labels of the binary one |
    | matthews | correlation of decision and truth | the same, all classes (Gorodkin 2004) | mean over labels |
    | brier | mean (p - y)^2 | summed over the classes (Brier 1950) | mean over labels |
    | calibration_error | of the positive class | of the decided class (Guo et al. 2017) | of all labels pooled |

    Means over classes leave out those that do not occur. The calibration error has no interval: it is biased upwards
    and resampling adds the bias once more, so that a percentile interval may miss the value itself.

    Args:
        probabilities: (n, k); k = 2 for a binary task.
        targets: class indices (n,), or 0/1 (n, k) for a multi-label task.
    Raises:
        InputError: a probability is not finite.
    """
    if not np.isfinite(probabilities).all():
        rows = int((~np.isfinite(probabilities)).any(axis=1).sum())
        raise InputError(
            f"split {split!r}: the model's probabilities are not finite for {rows} of {len(subjects)} records; "
            "training diverged, lower --learning-rate"
        )
    cases = _cases(task, probabilities, targets)
    by_attribute = attribute_groups(subjects, attributes, lambda rows, members: _suppressed(cases.among(rows), members))
    return SplitMetrics(
        split=split,
        subjects=len(set(subjects)),
        records=len(subjects),
        metrics=_metrics(cases, subjects),
        groups=(*_class_groups(cases, subjects, classes), *by_attribute),
        curves=_curves(cases),
    )


@dataclass(frozen=True)
class _Cases:
    """Probabilities, truth and decision for each class versus the rest, each of shape (n, k)."""

    task: Kind
    probabilities: Floats
    truth: Flags
    decided: Flags

    def among(self, rows: Flags) -> _Cases:
        return replace(self, probabilities=self.probabilities[rows], truth=self.truth[rows], decided=self.decided[rows])

    @property
    def scored(self) -> range:
        """The classes that an overall metric is a mean of."""
        return range(1, 2) if self.task == "binary" else range(self.truth.shape[1])


def _cases(task: Kind, probabilities: NDArray[np.floating], targets: NDArray[np.integer]) -> _Cases:
    values = np.asarray(probabilities, dtype=np.float64)
    one_hot = np.eye(values.shape[1], dtype=bool)
    if task == "multi-label":
        return _Cases(task, values, np.asarray(targets) == 1, values >= THRESHOLD)
    choice = (values[:, 1] >= THRESHOLD).astype(int) if task == "binary" else values.argmax(axis=1)
    return _Cases(task, values, one_hot[targets], one_hot[choice])


def _metrics(cases: _Cases, subjects: Sequence[str]) -> dict[str, Measured]:
    measured = measure(_statistics(cases), subjects)
    return {**measured, "calibration_error": Measured(value=_reliability(cases).error)}


def _suppressed(cases: _Cases, subjects: Sequence[str]) -> dict[str, Measured]:
    """The metrics of a subgroup, without those that rest on fewer than 10 subjects of a class."""
    few = {truth: [rests_on_few(subjects, cases.truth[:, k] == truth) for k in cases.scored] for truth in (True, False)}
    hidden = [name for name, truth in (("sensitivity", True), ("specificity", False)) if any(few[truth])]
    hidden += ["auroc", "balanced_accuracy", "matthews"] if any(few[True] + few[False]) else []
    return {
        name: Measured(value=None) if name in hidden else value for name, value in _metrics(cases, subjects).items()
    }


def _statistics(cases: _Cases) -> dict[str, Statistic]:
    statistics = {"auroc": macro([_auroc(cases, k) for k in cases.scored])}
    if cases.task == "binary":
        statistics |= {"sensitivity": _sensitivity(cases, 1), "specificity": _specificity(cases, 1)}
    if cases.task == "multi-class":
        statistics["balanced_accuracy"] = macro([_sensitivity(cases, k) for k in cases.scored])
    else:
        statistics["balanced_accuracy"] = macro([_balanced_accuracy(cases, k) for k in cases.scored])
    statistics["matthews"] = _matthews(cases)
    squares = (cases.probabilities - cases.truth) ** 2
    statistics["brier"] = mean(squares.sum(axis=1) if cases.task == "multi-class" else squares.mean(axis=1))
    return statistics


def _auroc(cases: _Cases, k: int) -> Statistic:
    return auroc(cases.probabilities[:, k], cases.truth[:, k])


def _sensitivity(cases: _Cases, k: int) -> Statistic:
    return share(cases.decided[:, k], cases.truth[:, k])


def _specificity(cases: _Cases, k: int) -> Statistic:
    return share(~cases.decided[:, k], ~cases.truth[:, k])


def _balanced_accuracy(cases: _Cases, k: int) -> Statistic:
    sensitivity, specificity = _sensitivity(cases, k), _specificity(cases, k)
    return lambda weights: (sensitivity(weights) + specificity(weights)) / 2


def _matthews(cases: _Cases) -> Statistic:
    if cases.task != "multi-label":
        return matthews(cases.decided, cases.truth)
    both = [np.stack([flags, ~flags], 2) for flags in (cases.decided, cases.truth)]
    return macro([matthews(both[0][:, k], both[1][:, k]) for k in cases.scored])


def _reliability(cases: _Cases) -> Reliability:
    if cases.task == "binary":
        return reliability(cases.probabilities[:, 1], cases.truth[:, 1])
    if cases.task == "multi-class":
        return reliability(cases.probabilities[cases.decided], cases.truth[cases.decided])
    return reliability(cases.probabilities.ravel(), cases.truth.ravel())


def _class_groups(cases: _Cases, subjects: Sequence[str], classes: Sequence[str]) -> list[GroupMetrics]:
    def metrics(k: int) -> dict[str, Measured]:
        measured = measure({"sensitivity": _sensitivity(cases, k)}, subjects)
        if rests_on_few(subjects, ~cases.truth[:, k]):
            return measured | dict.fromkeys(("auroc", "specificity"), Measured(value=None))
        return measured | measure({"auroc": _auroc(cases, k), "specificity": _specificity(cases, k)}, subjects)

    return [group("class", name, subjects, cases.truth[:, k], partial(metrics, k)) for k, name in enumerate(classes)]


def _curves(cases: _Cases) -> dict[str, tuple[tuple[float, float], ...]]:
    bins = _reliability(cases)
    curves = {"calibration": _points(bins.probability, bins.frequency)}
    if cases.task == "binary" and cases.truth.any(axis=0).all():
        curves["roc"] = _roc(cases.probabilities[:, 1], cases.truth[:, 1])
    return curves


def _roc(scores: Floats, positive: Flags) -> tuple[tuple[float, float], ...]:
    from sklearn.metrics import roc_curve

    false_positive, true_positive, _ = roc_curve(positive, scores)
    kept = np.unique(np.linspace(0, len(false_positive) - 1, _ROC_POINTS).round().astype(int))
    return _points(false_positive[kept], true_positive[kept])


def _points(x: Floats, y: Floats) -> tuple[tuple[float, float], ...]:
    return tuple(zip(x.tolist(), y.tolist(), strict=True))
