"""Figures as inline SVG, without scripts; colours are the page's variables, so that they follow light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import NormalDist
from typing import Any

Curve = Sequence[tuple[float, float]]

# Matplotlib draws in these colours; the page replaces them by its own.
INK, GRID, PRIVATE, TWIN, SHADE = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {INK: "--ink", GRID: "--rule", PRIVATE: "--private", TWIN: "--twin", SHADE: "--shade"}
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.8,
}
_MARKED = (0.01, 0.1)
_ROOM_FOR_TEXT = 0.2


def tradeoff_figure(curve: Sequence[tuple[float, float | None]]) -> str:
    """Trade-off curve: alpha (false alarms) against the guaranteed beta (members missed), 1 % and 10 % marked."""
    certified = [(alpha, beta) for alpha, beta in curve if beta is not None]

    def draw(axes: Any) -> None:
        x, y = zip(*_smooth(certified), strict=True)
        axes.fill_between(x, y, color=SHADE, linewidth=0)
        axes.plot([0, 1], [1, 0], color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(x, y, color=PRIVATE)
        for alpha, beta in certified:
            if any(abs(alpha - marked) < 1e-6 for marked in _MARKED):
                axes.plot([alpha], [beta], "o", color=PRIVATE, markersize=5.5, clip_on=False)
                axes.annotate(
                    f"{100 * alpha:.0f} % false alarms:\nmisses at least {_floor_percent(beta)} %",
                    (alpha, beta),
                    (0.3, 0.97) if alpha < 0.05 else (0.47, 0.8),
                    va="center",
                    fontsize=9,
                    arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.6, "shrinkB": 4},
                )
        low = min(certified, key=lambda point: abs(point[0] - point[1]))
        if min(low) > _ROOM_FOR_TEXT:
            axes.text(low[0] / 2, low[1] / 2, "no attack\ngets here", ha="center", va="center", fontsize=9)
        axes.text(0.755, 0.295, "pure guessing", rotation=-45, rotation_mode="anchor", ha="center", fontsize=9)
        axes.set_xlabel("wrongly said to be in the training data (α)")
        axes.set_ylabel("members missed (β)")

    return _figure("tradeoff", "Trade-off curve of the guarantee", draw, size=4.6)


def roc_figure(curve: Curve, twin: Curve | None) -> str:
    """ROC curve, the non-private twin's beside it."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=GRID, linewidth=1)
        _pair(axes, curve, twin, marker="")
        axes.set_xlabel("1 − specificity")
        axes.set_ylabel("sensitivity")

    return _figure("roc", "ROC curve", draw, size=3.6)


def calibration_figure(curve: Curve, twin: Curve | None) -> str:
    """Observed frequency against mean predicted probability, the non-private twin's beside it."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=GRID, linewidth=1)
        _pair(axes, curve, twin, marker="o")
        axes.set_xlabel("predicted probability")
        axes.set_ylabel("observed frequency")

    return _figure("calibration", "Calibration curve", draw, size=3.6)


def precision_recall_figure(curve: Curve, twin: Curve | None) -> str:
    """Precision against recall, the non-private twin's beside it."""

    def draw(axes: Any) -> None:
        _pair(axes, curve, twin, marker="")
        axes.set_xlabel("recall: objects found")
        axes.set_ylabel("precision: findings that are right")

    return _figure("precision-recall", "Precision and recall", draw, size=3.6)


def _pair(axes: Any, curve: Curve, twin: Curve | None, marker: str) -> None:
    if twin:
        axes.plot(
            *zip(*twin, strict=True), color=TWIN, linestyle=(0, (5, 2)), marker=marker, markersize=4, clip_on=False
        )
    axes.plot(*zip(*curve, strict=True), color=PRIVATE, marker=marker, markersize=4, clip_on=False)


def _smooth(certified: Curve) -> list[tuple[float, float]]:
    """The certified points joined for the eye, linearly in normal quantiles, where such curves are nearly straight.

    Chords would be drawn above a convex curve and show more than is guaranteed.
    """
    quantile, cumulative = NormalDist().inv_cdf, NormalDist().cdf
    inner = [(quantile(alpha), quantile(beta)) for alpha, beta in certified if 0 < beta < 1]
    joined = [(0.0, max((beta for _, beta in certified), default=0.0))]
    for (x0, y0), (x1, y1) in pairwise(inner):
        steps = [k / 12 for k in range(12)]
        joined += [(cumulative(x0 + t * (x1 - x0)), cumulative(y0 + t * (y1 - y0))) for t in steps]
    joined += [(cumulative(x), cumulative(y)) for x, y in inner[-1:]]
    return [*joined, *((alpha, beta) for alpha, beta in certified if beta == 0), (1.0, 0.0)]


def _floor_percent(beta: float) -> str:
    return f"{int(1000 * beta) / 10:g}"


def _figure(name: str, title: str, draw: Callable[[Any], None], size: float) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(size, size), layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        draw(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return inline_svg(buffer.getvalue(), title)


def inline_svg(svg: str, title: str) -> str:
    """The drawing alone: no XML prologue, metadata or namespaces, the page's colours and fonts."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
