"""Rows of runs of `methods.py` merged by method, and tables of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reticent.training import summary

METRICS = ("auroc", "balanced_accuracy", "brier", "calibration_error")
Rows = list[dict[str, Any]]


def merged(old: Mapping[str, Rows], new: Mapping[str, Rows], order: Sequence[str]) -> dict[str, Rows]:
    """Rows of both stages: those of the methods in `new`, and the old ones of all others, in the order of methods."""
    found = {}
    for stage in ("search", "final"):
        measured = {row["variant"] for row in new[stage]}
        rows = [row for row in old.get(stage, []) if row["variant"] not in measured] + new[stage]
        found[stage] = sorted(rows, key=lambda row: order.index(row["variant"]))
    return found


def tables(final: Rows, reference: str) -> dict[str, Rows]:
    """By metric: mean of each configuration on the test split, and its difference from the reference if that is there.

    `final` begins with the reference's rows.
    """
    frame, found = pd.DataFrame(final), {}
    for metric in METRICS:
        table = summary(frame, "test", metric)
        if final[0]["variant"] != reference:
            table = table.drop(columns=[name for name in table if str(name).startswith("difference")])
        found[metric] = json.loads(table.to_json(orient="records"))
    return found


def markdown(measured: Mapping[str, Any]) -> str:
    """The table of a set as RESULTS.md has it."""
    names = {row["configuration"]: row["variant"] for row in measured["final"]}
    by_metric = {metric: {row["configuration"]: row for row in rows} for metric, rows in measured["tables"].items()}
    head = ("method", "chosen", "AUROC", "difference", "balanced accuracy", "Brier score", "calibration error")
    lines = [_line(head), "|---" * len(head) + "|"]
    for configuration, variant in names.items():
        auroc, balanced, brier, calibration = (by_metric[metric][configuration] for metric in METRICS)
        chosen = configuration.removeprefix(f"{variant}, ").replace("_", " ")
        error = f"{calibration['mean']:.3f}{_interval(calibration)}"
        cells = (f"{auroc['mean']:.3f}{_interval(auroc)}", _difference(auroc), f"{balanced['mean']:.3f}")
        lines.append(_line((variant, chosen, *cells, f"{brier['mean']:.3f}", error)))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _interval(row: Mapping[str, Any]) -> str:
    return "" if row.get("low") is None else f" ({row['low']:.3f} to {row['high']:.3f})"


def _difference(row: Mapping[str, Any]) -> str:
    if row.get("difference") is None:
        return ""
    low, high = row.get("difference low"), row.get("difference high")
    return f"{row['difference']:+.3f}" + ("" if low is None else f" ({low:+.3f} to {high:+.3f})")
