"""Bland-Altman plots: how far predictions are from the truth, by the size of what is predicted."""

from __future__ import annotations

import io
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

from reticent.report.figures import GRID, INK, PRIVATE, STYLE, TWIN, inline_svg

Pairs = Sequence[tuple[float, float]]
LIMITS = 1.96
"""Standard deviations from the bias, as in the metrics."""


def agreement_figure(pairs: Pairs, twin: Pairs | None, name: str) -> str:
    """Difference against mean of (true, predicted) pairs, with bias and limits; the twin's points hollow.

    Source: Bland & Altman 1986.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({**STYLE, "svg.hashsalt": f"agreement {name}"}):
        figure = Figure(figsize=(4.2, 3.4), layout="constrained")
        axes = figure.add_subplot()
        axes.axhline(0, color=GRID, linewidth=1)
        if twin:
            axes.plot(*_points(twin), "o", markersize=3.2, markerfacecolor="none", markeredgecolor=TWIN, alpha=0.7)
        axes.plot(*_points(pairs), "o", color=PRIVATE, markersize=3.2, markeredgewidth=0, alpha=0.75)
        _draw_limits(axes, pairs)
        axes.set_xlabel(f"{name}: mean of predicted and true")
        axes.set_ylabel("predicted − true")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return inline_svg(buffer.getvalue(), f"Bland-Altman plot of {name}")


def _points(pairs: Pairs) -> tuple[list[float], list[float]]:
    return [(a + b) / 2 for a, b in pairs], [b - a for a, b in pairs]


def _draw_limits(axes: Any, pairs: Pairs) -> None:
    _, differences = _points(pairs)
    if len(differences) < 2:
        return
    bias, spread = mean(differences), LIMITS * stdev(differences)
    for value, dashes in ((bias, (0, ())), (bias - spread, (0, (4, 3))), (bias + spread, (0, (4, 3)))):
        axes.axhline(value, color=INK, linewidth=1, linestyle=dashes)
        axes.annotate(
            f"{value:.3g}", (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=9
        )
