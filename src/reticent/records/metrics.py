"""Metrics on held-out patients as they are stored in `private/metrics.json`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

METRICS_SCHEMA: Final = "reticent.metrics/1"
SMALLEST_GROUP = 10
"""Groups with fewer subjects are suppressed: their metrics would describe single patients."""
_HEADLINES = ("auroc", "dice", "ap50", "r2")


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


def headline(names: Iterable[str]) -> str:
    """What tables of runs are about unless another metric is named: of several targets ("VAT r2"), the first's."""
    there = list(names)
    found = (name for head in _HEADLINES for name in there if name == head or name.endswith(f" {head}"))
    return next(found, _HEADLINES[0])


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
