"""Metrics on held-out patients. Reads private records; no guarantee covers what it returns."""

from __future__ import annotations

from torch import nn

from reticent.records import SplitMetrics
from reticent.training.prepared_cohort import PreparedCohort


def held_out_metrics(model: nn.Module, data: PreparedCohort) -> tuple[SplitMetrics, ...]:
    """Metrics of the validation and test splits, as far as they have labelled records."""
    rows = list(zip(data.splits, data.cohort.entries, strict=True))
    records = {
        split: [i for i, (own, entry) in enumerate(rows) if own == split and data.task.labelled(entry)]
        for split in ("val", "test")
        if split in data.splits
    }
    return tuple(data.task.evaluate(model, data, own, split) for split, own in records.items() if own)
