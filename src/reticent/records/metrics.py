"""Metrics on held-out patients as they are stored in `private/metrics.json`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

METRICS_SCHEMA: Final = "reticent.metrics/1"
SMALLEST_GROUP = 10
"""Groups with fewer subjects are suppressed: their metrics would describe single patients."""

HEADLINES: Final = ("auroc", "dice", "ap50", "r2")
"""Tables of runs are about the first of these metrics that a run has, unless another is named."""


def headline(metrics: Collection[str]) -> str:
    """The first of `HEADLINES` among these names; where numbers are predicted, R² of the first target."""
    numbers = (name for name in metrics if name.endswith(" r2"))
    return next((name for name in HEADLINES if name in metrics), next(numbers, HEADLINES[0]))


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Measured(_Record):
    """A value with its confidence interval; None where it cannot be computed (one class only, say) or is suppressed."""

    value: float | None
    lower: float | None = None
    upper: float | None = None


class GroupMetrics(_Record):
    """Metrics of one class or of one value of an attribute; empty if the group is suppressed."""

    kind: Literal["class", "attribute"]
    name: str
    subjects: int | None
    """None: fewer than `SMALLEST_GROUP`."""
    metrics: dict[str, Measured] = {}


class SplitMetrics(_Record):
    """Metrics of one split."""

    split: str
    subjects: int
    records: int
    metrics: dict[str, Measured]
    groups: tuple[GroupMetrics, ...] = ()
    curves: dict[str, tuple[tuple[float, float], ...]] = {}
    """"roc": (1 - specificity, sensitivity); "calibration": (mean probability, observed frequency)."""


class Metrics(_Record):
    """All metrics of a run. They are computed on private patients and no guarantee covers them."""

    schema_: Literal["reticent.metrics/1"] = Field(default=METRICS_SCHEMA, alias="schema")
    task: str
    covered_by_guarantee: Literal[False] = False
    confidence: float = 0.95
    interval: str = "percentile bootstrap over subjects, 1000 resamples"
    splits: tuple[SplitMetrics, ...]
    twin: tuple[SplitMetrics, ...] = ()
    """The same metrics of the non-private twin, if one was asked for."""
    references: dict[str, tuple[SplitMetrics, ...]] = {}
    """Models of markers, of their gaps and of the acquisition alone, without any image, by name."""
    reference_note: str | None = None
    """Why there are none although there are markers."""
