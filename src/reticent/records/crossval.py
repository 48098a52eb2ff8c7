"""A nested cross-validation: what was compared, what came out, and what all of it cost the patients."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from reticent.records.metrics import Measured
from reticent.records.run_folder import now
from reticent.records.statement import Number

CROSSVAL_SCHEMA: Final = "reticent.crossval/1"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Difference(_Record):
    """An AUROC less that of the first row, with its 95 % interval and two-sided p-value (paired, DeLong)."""

    value: float
    lower: float
    upper: float
    p_value: float


class Compared(_Record):
    """One model: a variant of the study, or a reference without images."""

    name: str
    reference: bool
    auroc: Measured
    """By patient over all outer folds, interval by DeLong."""
    bootstrap: Measured
    """The same with the interval of a bootstrap over patients."""
    brier: Measured
    difference: Difference | None
    """None for the first row."""
    chosen: dict[str, int] = {}
    """How often the inner folds chose which options."""


class Crossval(_Record):
    """Rows in order of the study's variants, references last."""

    schema_: Literal["reticent.crossval/1"] = Field(default=CROSSVAL_SCHEMA, alias="schema")
    created: str = Field(default_factory=now)
    cohort: str
    unit: Literal["subject", "record"]
    outcome: str
    """Name of the positive class."""
    subjects: int
    positives: int
    folds: int
    inner_folds: int
    repeats: int
    runs: int
    covered_by_guarantee: Literal[False] = False
    """Scores of held-out patients never are."""
    epsilon: Number
    """Of one patient, in everything that was trained and chosen here together; the largest of all patients."""
    mu: Number
    expected_error: float
    """Standard error that an AUROC of 0.7 has with so many patients (Hanley & McNeil 1982)."""
    rows: tuple[Compared, ...]
    notes: tuple[str, ...] = ()

    def readings(self) -> tuple[str, ...]:
        """Plain sentences on how much such a cohort can tell."""
        who = "patients" if self.unit == "subject" else "images"
        return (
            f"{self.positives} of {self.subjects} {who} are of class {self.outcome}: an AUROC of 0.7 has a standard error "
            f"of {self.expected_error:.3f} with so many, and smaller differences than twice that are no evidence unless "
            "the paired interval says so.",
            f"Intervals say which {who} might have been in the cohort, not what another training or other folds would "
            "have changed; p-values are of each row with the first, not adjusted for the number of rows. To choose the "
            "best row is one more choice, and its figure then is too good.",
            *self.notes,
        )
