"""What is looked at before a run is charged: who is there to train on, and what the first weights saw already."""

from __future__ import annotations

import warnings

from reticent.errors import InputError
from reticent.records import PrivacyStatement
from reticent.training.plan import Plan
from reticent.training.prepared_cohort import PreparedCohort
from reticent.training.publishing import composed, weak_delta
from reticent.training.weights import shared_statements


def check_training(data: PreparedCohort, plan: Plan) -> None:
    """Raise InputError for a cohort without training subjects; warn of a weak delta and of classes without any."""
    subjects = data.subjects("train")
    if not subjects:
        raise InputError(f"{data.cohort.uri}: no training subjects; check the split column")
    if (weak := weak_delta(plan.study, len(subjects))) is not None and plan.noise_multiplier is not None:
        warnings.warn(weak, stacklevel=3)
    if data.cohort.subjects_assumed is not None and plan.study.cohort.unit == "subject":
        warnings.warn(data.cohort.subjects_assumed, stacklevel=3)
    for split in ("val", "test"):
        if split in data.splits and not data.labelled(split):
            warnings.warn(f"no record of the split {split} has a label, so that it tells nothing", stacklevel=3)
    for missing in data.classes_without_training():
        warnings.warn(f"no training record has the class {missing!r}; is it a spelling of another?", stacklevel=3)


def earlier_statements(plan: Plan, trained: set[str]) -> tuple[PrivacyStatement, ...]:
    """Statements of the runs on these subjects, by pseudonym, that a private run's first weights come from, with a
    warning.

    Raises:
        InputError: there are any, and they cannot be composed with the run: they differ in their unit or neighbouring
            relation, or it is a phase of a campaign, whose groups have guarantees of their own.
    """
    earlier = () if plan.noise_multiplier is None else shared_statements(plan.study, trained)
    if earlier and plan.phase is not None:
        raise InputError(
            f"{plan.study.model.init_from}: run {earlier[0].run} was trained on subjects of this campaign, whose "
            "guarantees it would add to; start from other weights"
        )
    if earlier:
        composed(plan, [statement.mechanism for statement in earlier])
        runs = " and ".join(statement.run for statement in earlier)
        warnings.warn(
            f"run {runs}, where the first weights come from, was trained on some of these "
            f"{plan.study.cohort.unit}s: the statement will be of both together, and more than the target of this run "
            "alone",
            stacklevel=3,
        )
    return earlier
