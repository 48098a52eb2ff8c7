"""Areas under ROC curves of few patients: standard errors, intervals and the comparison of two models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata

from reticent.errors import InputError
from reticent.records import Measured
from reticent.training.evaluation.bootstrap import CONFIDENCE, measure
from reticent.training.evaluation.statistics import Flags, Floats, auroc, macro


@dataclass(frozen=True)
class Comparison:
    """Two AUROCs of the same patients: a less b with its 95 % interval, and the two-sided p-value of no difference."""

    difference: float
    lower: float
    upper: float
    p_value: float


def auc_report(
    truth: ArrayLike,
    scores: ArrayLike,
    subjects: Sequence[str] | None = None,
    method: Literal["delong", "bootstrap"] = "delong",
) -> Measured:
    r"""AUROC with its 95 % interval; of several score vectors their mean AUROC.

    "delong": :math:`\hat\sigma^2 = S_{10} / m + S_{01} / n` of the structural components (DeLong et al. 1988), here
    averaged over the score vectors, with an interval symmetric in the logit (Pepe 2003, section 5.3.3); none where the
    classes are told apart without error. "bootstrap": percentiles over 1000 resamples of subjects with all their
    records. Both take the scores as given: what another training would have changed is not in them.

    Args:
        truth: (n,), of 0 and 1.
        scores: (n,), or (k, n) for k repeats.
        subjects: of the records; DeLong's needs one record a subject.

    Raises:
        InputError: a class is missing, a score is NaN, or DeLong's interval is asked for several records of a subject.
    """
    positive, rows = _checked(truth, scores)
    names = [str(i) for i in range(len(positive))] if subjects is None else list(subjects)
    if method == "bootstrap":
        return measure({"auroc": macro([auroc(row, positive) for row in rows])}, names)["auroc"]
    if len(set(names)) < len(names):
        raise InputError(
            "DeLong's interval takes records for independent, and a subject has several: average their scores, or use "
            "the bootstrap"
        )
    cases, controls = _components(positive, rows)
    value, error = float(cases.mean()), math.sqrt(_variance(cases, controls))
    if not 0 < value < 1 or error == 0:
        return Measured(value=value)
    middle, half = math.log(value / (1 - value)), _quantile() * error / (value * (1 - value))
    lower, upper = (1 / (1 + math.exp(-end)) for end in (middle - half, middle + half))
    return Measured(value=value, lower=lower, upper=upper)


def auc_standard_error(truth: ArrayLike, scores: ArrayLike) -> float:
    """DeLong's standard error; see `auc_report`."""
    return math.sqrt(_variance(*_components(*_checked(truth, scores))))


def compare_auc(truth: ArrayLike, a: ArrayLike, b: ArrayLike) -> Comparison:
    """Paired comparison of two models on the same records (DeLong et al. 1988); each may be of several repeats.

    Raises:
        InputError: see `auc_report`.
    """
    positive, rows = _checked(truth, a)
    cases, controls = (
        x - y for x, y in zip(_components(positive, rows), _components(*_checked(truth, b)), strict=True)
    )
    difference, error = float(cases.mean()), math.sqrt(_variance(cases, controls))
    half = _quantile() * error
    p_value = 2 * float(norm.sf(abs(difference) / error)) if error else float(difference == 0)
    return Comparison(difference, difference - half, difference + half, p_value)


def hanley_mcneil(auc: float, positives: int, negatives: int) -> float:
    r"""Standard error to expect of an AUROC :math:`A` before there are scores, by Hanley & McNeil (1982).

    .. math:: n_+ n_- \sigma^2 = A(1-A) + (n_+ - 1)(Q_1 - A^2) + (n_- - 1)(Q_2 - A^2), \quad
              Q_1 = \frac{A}{2-A}, \quad Q_2 = \frac{2A^2}{1+A}.
    """
    q1, q2, square = auc / (2 - auc), 2 * auc**2 / (1 + auc), auc**2
    total = auc * (1 - auc) + (positives - 1) * (q1 - square) + (negatives - 1) * (q2 - square)
    return math.sqrt(total / (positives * negatives))


def _checked(truth: ArrayLike, scores: ArrayLike) -> tuple[Flags, Floats]:
    positive = np.asarray(truth) == 1
    rows = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    if positive.all() or not positive.any():
        raise InputError("an AUROC needs records of both classes")
    if np.isnan(rows).any():
        raise InputError(f"{int(np.isnan(rows).any(0).sum())} of {len(positive)} scores are NaN; leave these out")
    return positive, rows


def _components(positive: Flags, rows: Floats) -> tuple[Floats, Floats]:
    """Structural components of positives and negatives: how many of the others each beats, averaged over the rows.

    By mid-ranks, as in Sun & Xu (2014).
    """
    found = [(_beaten(row, positive), 1 - _beaten(row, ~positive)) for row in rows]
    cases, controls = (np.mean(kind, axis=0) for kind in zip(*found, strict=True))
    return cases, controls


def _beaten(row: Floats, among: Flags) -> NDArray[np.float64]:
    """Of each score in `among`, the share of the other scores below it."""
    own: NDArray[np.float64] = rankdata(row)[among] - rankdata(row[among])
    return own / (~among).sum()


def _variance(cases: Floats, controls: Floats) -> float:
    return sum(float(part.var(ddof=1)) / len(part) if len(part) > 1 else 0.0 for part in (cases, controls))


def _quantile() -> float:
    return float(norm.ppf((1 + CONFIDENCE) / 2))
