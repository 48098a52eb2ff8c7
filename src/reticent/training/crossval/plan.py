"""Which runs a nested cross-validation has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reticent.data import Cohort, check_folds
from reticent.errors import InputError
from reticent.records import Configuration, FoldOptions, Study, Sweep


@dataclass(frozen=True)
class Folds:
    """`number` outer folds, `inner` ones inside each to choose options by, `repeats` times with other folds."""

    number: int = 5
    inner: int = 3
    repeats: int = 1

    def __post_init__(self) -> None:
        if self.number < 2 or self.inner < 2 or self.repeats < 1:
            raise InputError("a cross-validation has at least 2 folds, 2 inner folds and 1 repeat")


@dataclass(frozen=True)
class Outer:
    """One outer fold of one variant."""

    variant: int
    repeat: int
    fold: int

    @property
    def name(self) -> str:
        return f"{self.variant:02d}-{self.repeat}-{self.fold}"


def by_variant(sweep: Sweep) -> Mapping[str, list[Configuration]]:
    """The configurations of each variant: they are searched, the variants compared."""
    found: dict[str, list[Configuration]] = {}
    for configuration in sweep.configurations:
        found.setdefault(configuration.variant or "study", []).append(configuration)
    return found


def outer_study(study: Study, folds: Folds, outer: Outer) -> Study:
    """The study of an outer fold."""
    return _with_fold(study, FoldOptions(folds=folds.number, number=outer.fold, repeat=outer.repeat))


def inner_study(study: Study, folds: Folds, outer: Outer, inner: int) -> Study:
    """The study of an inner fold."""
    fold = FoldOptions(
        folds=folds.number, number=outer.fold, repeat=outer.repeat, inner_folds=folds.inner, inner_number=inner
    )
    return _with_fold(study, fold)


def inner_path(out: Path, outer: Outer, option: int, inner: int) -> Path:
    """Folder of an inner run."""
    return out / "runs" / f"{outer.name}-option-{option}-{inner}"


def check_design(sweep: Sweep, cohorts: Sequence[Cohort], folds: Folds) -> None:
    """Raise InputError unless all configurations share patients, outcome and kind of privacy, and the folds fit."""
    studies = [configuration.study for configuration in sweep.configurations]
    same = [(s.cohort.uri, s.cohort.labels, s.cohort.unit, s.privacy.non_private) for s in studies]
    if len(set(same)) > 1:
        raise InputError(
            "the compared studies differ in cohort, label, unit or in whether they are private; give all the same"
        )
    cohort = cohorts[0]
    if cohort.task != "binary":
        raise InputError(f"{cohort.uri}: a {cohort.task} task; the cross-validation compares AUROCs of two classes")
    check_folds(cohort, folds.number)


def _with_fold(study: Study, fold: FoldOptions) -> Study:
    return study.model_copy(update={"cohort": study.cohort.model_copy(update={"fold": fold})})
