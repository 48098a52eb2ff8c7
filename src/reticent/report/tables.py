"""Tables in Markdown and LaTeX; a sweep's summary as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

_SPECIAL = {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$"}


def markdown_table(summary: pd.DataFrame, metric: str) -> str:
    """Columns: configuration, runs, mean and difference with their intervals."""
    return markdown(_cells(summary, metric))


def latex_table(summary: pd.DataFrame, metric: str) -> str:
    """The same as a `tabular` with the rules of booktabs."""
    return latex(_cells(summary, metric))


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its header."""
    header, *rows = cells
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)) + "\n"


def latex(cells: Sequence[Sequence[str]]) -> str:
    """The same as a `tabular` with the rules of booktabs."""
    header, *rows = ([_escaped(cell) for cell in row] for row in cells)
    lines = [
        rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule", f"{' & '.join(header)} \\\\", r"\midrule",
        *(f"{' & '.join(row)} \\\\" for row in rows), r"\bottomrule", r"\end{tabular}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _cells(summary: pd.DataFrame, metric: str) -> list[list[str]]:
    header = ["configuration", "runs", f"{metric} (95 % interval)", "difference from the first (95 % interval)"]
    rows: list[Mapping[str, Any]] = summary.to_dict("records")  # type: ignore[assignment]
    return [header] + [
        [
            str(row["configuration"]),
            str(row["runs"]),
            _value(row, "mean", "low", "high"),
            _value(row, "difference", "difference low", "difference high"),
        ]
        for row in rows
    ]


def _value(row: Mapping[str, Any], middle: str, low: str, high: str) -> str:
    if pd.isna(row.get(middle)):
        return ""
    if pd.isna(row.get(low)):
        return f"{row[middle]:.4f}"
    return f"{row[middle]:.4f} ({row[low]:.4f} to {row[high]:.4f})"


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)
