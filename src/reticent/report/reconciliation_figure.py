"""Risk and performance over the noise, as two panels of one figure."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from reticent.records import Budget, Reconciliation, write_file
from reticent.report.figures import INK, PRIVATE, STYLE, TWIN, inline_svg

_LIGHT = {INK: "#1c1e21", PRIVATE: "#0067a3", TWIN: "#c05000"}
_SIZE = (6.6, 6.0)


def reconciliation_svg(record: Reconciliation) -> str:
    """Inline SVG in the page's colours."""
    buffer = io.StringIO()
    _drawn(record).savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return inline_svg(buffer.getvalue(), "Risk and performance over the noise")


def save_reconciliation_figure(record: Reconciliation, path: Path) -> None:
    """The same as a PNG file on white, for its owner alone to read."""
    write_file(path, partial(_drawn(record, _LIGHT).savefig, format="png", dpi=140), mode=0o600)


def _drawn(record: Reconciliation, colours: dict[str, str] | None = None) -> Any:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    shown = colours or {colour: colour for colour in (INK, PRIVATE, TWIN)}
    style = {name: shown.get(value, value) if isinstance(value, str) else value for name, value in STYLE.items()}
    with rc_context({**style, "svg.hashsalt": "reconciliation"}):
        figure = Figure(figsize=_SIZE, layout="constrained")
        risk, worth = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        rows = [row for row in record.rows if row.noise_multiplier is not None]
        _risk(risk, record, rows, shown)
        _performance(worth, record, rows, shown)
    return figure


def _risk(axes: Any, record: Reconciliation, rows: Sequence[Budget], colours: dict[str, str]) -> None:
    noise = [row.noise_multiplier for row in rows]
    worst = [1.0 if row.worst_case.upper is None else row.worst_case.upper for row in rows]
    axes.plot(noise, worst, color=colours[INK], label="any attacker with candidates (guaranteed)")
    axes.plot(
        noise, [row.relaxed for row in rows], color=colours[INK], linestyle=(0, (4, 2)), linewidth=1.1,
        label="without the contribution's sign (estimate)",
    )  # fmt: skip
    axes.plot(noise, [row.from_scratch for row in rows], color=colours[TWIN], label="best unbiased, without candidates")
    axes.plot(
        noise, [row.shrinkage for row in rows], color=colours[TWIN], linestyle=(0, (4, 2)), linewidth=1.1,
        label="shrunk, without candidates",
    )  # fmt: skip
    errors = [
        [row.recovered - row.interval.lower for row in rows],
        [(row.interval.upper or 1.0) - row.recovered for row in rows],
    ]
    axes.errorbar(
        noise, [row.recovered for row in rows], errors, color=colours[PRIVATE], marker="o", markersize=4.5, capsize=2,
        label="malicious layer, tried out",
    )  # fmt: skip
    axes.axhline(record.control, color=colours[PRIVATE], linewidth=0.8, linestyle=":", label="unrelated images")
    axes.set(xscale="log", ylim=(-0.04, 1.04), ylabel="chance that an image is given away")
    axes.figure.legend(frameon=False, fontsize=7.5, loc="outside upper center", ncols=2)
    top = axes.secondary_xaxis("top")
    top.set_xticks(noise, [_epsilon(row) for row in rows], fontsize=7.5)
    top.minorticks_off()
    top.set_xlabel(f"epsilon at delta = {rows[0].epsilon.delta:g}")


def _performance(axes: Any, record: Reconciliation, rows: Sequence[Budget], colours: dict[str, str]) -> None:
    known = [(row.noise_multiplier, row.performance) for row in rows if row.performance is not None]
    if known:
        values = [found.value for _, found in known]
        spans = [found.interval for _, found in known]
        errors = [
            [0.0 if span is None else value - span.lower for value, span in zip(values, spans, strict=True)],
            [
                0.0 if span is None or span.upper is None else span.upper - v
                for v, span in zip(values, spans, strict=True)
            ],
        ]
        axes.errorbar(
            [noise for noise, _ in known], values, errors, color=colours[PRIVATE], marker="o", markersize=4.5, capsize=2
        )
    bare = next((row.performance for row in record.rows if row.noise_multiplier is None), None)
    if bare is not None:
        axes.axhline(bare.value, color=colours[TWIN], linewidth=1.1, linestyle=(0, (4, 2)), label="without privacy")
        axes.legend(frameon=False, fontsize=7.5, loc="lower left")
    axes.set(xscale="log", xlabel="noise multiplier", ylabel=f"{record.metric}, {record.split}")


def _epsilon(row: Budget) -> str:
    if row.epsilon.upper is None:
        return "∞"
    value = row.epsilon.upper
    if value < 1e4:
        return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
    return f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
