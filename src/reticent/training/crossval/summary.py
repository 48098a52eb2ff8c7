"""From the scores of held-out patients to a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from reticent.data import Cohort
from reticent.records import Compared, Crossval, Difference, Number, Study
from reticent.training.crossval.fold_scores import Scored
from reticent.training.crossval.plan import Folds
from reticent.training.crossval.selection import ranks
from reticent.training.evaluation import auc_report, compare_auc, hanley_mcneil
from reticent.training.evaluation.bootstrap import measure
from reticent.training.evaluation.statistics import mean

OutOfFold = Mapping[str, Sequence[Sequence[Mapping[str, Scored]]]]
"""Scores of held-out subjects by model, repeat, outer fold and pseudonym."""
_TYPICAL = 0.7


def summarise(
    study: Study,
    cohort: Cohort,
    folds: Folds,
    models: OutOfFold,
    references: OutOfFold,
    chosen: Mapping[str, Mapping[str, int]],
    spent: tuple[Number, Number],
    *,
    runs: int,
    notes: tuple[str, ...],
) -> Crossval:
    """The record: one score a subject and repeat, its rank within its fold; AUROCs are means over the repeats."""
    first = next(iter(models.values()))
    subjects = sorted(pseudonym for fold in first[0] for pseudonym in fold)
    truth = np.array([_merged(first[0])[pseudonym].outcome for pseudonym in subjects])
    base = _ranked(first, subjects)
    positives = int(truth.sum())
    return Crossval(
        cohort=cohort.name,
        unit=study.cohort.unit,
        outcome=cohort.classes[1],
        subjects=len(subjects),
        positives=positives,
        folds=folds.number,
        inner_folds=folds.inner if any(chosen.values()) else 0,
        repeats=folds.repeats,
        runs=runs,
        epsilon=spent[0],
        mu=spent[1],
        expected_error=hanley_mcneil(_TYPICAL, positives, len(subjects) - positives),
        rows=tuple(
            _compared(name, repeats, subjects, truth, base, name in references, chosen.get(name, {}))
            for name, repeats in {**models, **references}.items()
        ),
        notes=notes,
    )


def _compared(
    name: str,
    repeats: Sequence[Sequence[Mapping[str, Scored]]],
    subjects: Sequence[str],
    truth: np.ndarray,
    base: np.ndarray,
    reference: bool,
    chosen: Mapping[str, int],
) -> Compared:
    ranked = _ranked(repeats, subjects)
    probabilities = np.array([[_merged(repeat)[pseudonym].probability for pseudonym in subjects] for repeat in repeats])
    difference = None
    if ranked is not base and not np.array_equal(ranked, base):
        found = compare_auc(truth, ranked, base)
        difference = Difference(value=found.difference, lower=found.lower, upper=found.upper, p_value=found.p_value)
    return Compared(
        name=name,
        reference=reference,
        auroc=auc_report(truth, ranked),
        bootstrap=auc_report(truth, ranked, subjects, method="bootstrap"),
        brier=measure({"brier": mean(((probabilities - truth) ** 2).mean(0))}, subjects)["brier"],
        difference=difference,
        chosen=dict(chosen),
    )


def _ranked(repeats: Sequence[Sequence[Mapping[str, Scored]]], subjects: Sequence[str]) -> np.ndarray:
    """(repeats, subjects)."""
    rows = []
    for repeat in repeats:
        found = {p: rank for fold in repeat for p, rank in zip(fold, ranks(fold), strict=True)}
        rows.append([found[pseudonym] for pseudonym in subjects])
    return np.array(rows)


def _merged(folds: Sequence[Mapping[str, Scored]]) -> dict[str, Scored]:
    return {pseudonym: scored for fold in folds for pseudonym, scored in fold.items()}
