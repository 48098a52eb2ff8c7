"""A cross-validation as cells of a table and as a figure."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from reticent.records import Compared, Crossval, Measured, write_file

_MODEL, _REFERENCE = "#0067a3", "#8a8f96"


def crossval_cells(record: Crossval) -> list[list[str]]:
    """Header and one row a model; references are named so."""
    header = ["model", "AUROC (95 %, DeLong)", "bootstrap", "Brier", "less the first (95 %)", "p", "chosen inside"]
    return [header] + [
        [
            _name(row), _value(row.auroc), _range(row.bootstrap), _plain(row.brier), *_difference(row),
            "; ".join(f"{options} ({count})" for options, count in row.chosen.items()),
        ]
        for row in record.rows
    ]  # fmt: skip


def save_crossval_figure(record: Crossval, path: Path) -> None:
    """AUROCs with DeLong's intervals, models above references; as PNG or SVG by the suffix."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.family": "sans-serif", "font.size": 9, "svg.hashsalt": "reticent"}):
        figure = Figure(figsize=(6.4, 0.9 + 0.42 * len(record.rows)), layout="constrained")
        panel = figure.subplots()
        for height, row in zip(range(len(record.rows), 0, -1), record.rows, strict=True):
            value = np.nan if row.auroc.value is None else row.auroc.value
            lower, upper = (value if end is None else end for end in (row.auroc.lower, row.auroc.upper))
            colour = _REFERENCE if row.reference else _MODEL
            panel.plot([lower, upper], [height, height], color=colour, linewidth=2)
            panel.plot(value, height, "s" if row.reference else "o", color=colour)
        panel.axvline(0.5, color="black", linewidth=0.6, linestyle=":")
        panel.set_yticks(range(len(record.rows), 0, -1), [_name(row) for row in record.rows])
        panel.set_ylim(0.4, len(record.rows) + 0.6)
        panel.set_xlabel(f"AUROC of class {record.outcome} ({record.positives} of {record.subjects})")
        panel.spines[["top", "right"]].set_visible(False)
        kind = path.suffix.removeprefix(".")
        metadata = {"Date": None} if kind == "svg" else {}
        write_file(path, partial(figure.savefig, format=kind, dpi=130, metadata=metadata), mode=0o600)


def _name(row: Compared) -> str:
    return f"{row.name} (no image)" if row.reference else row.name


def _value(measured: Measured) -> str:
    return f"{_plain(measured)} ({_range(measured)})" if measured.lower is not None else _plain(measured)


def _plain(measured: Measured) -> str:
    return "" if measured.value is None else f"{measured.value:.3f}"


def _range(measured: Measured) -> str:
    return "" if measured.lower is None or measured.upper is None else f"{measured.lower:.3f} to {measured.upper:.3f}"


def _difference(row: Compared) -> tuple[str, str]:
    if row.difference is None:
        return "", ""
    found = row.difference
    return f"{found.value:+.3f} ({found.lower:+.3f} to {found.upper:+.3f})", f"{found.p_value:.3f}"
