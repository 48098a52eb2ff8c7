"""The report of a run as one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reticent.records import (
    SMALLEST_GROUP,
    GroupMetrics,
    Metrics,
    PrivacyStatement,
    RunFolder,
    SplitMetrics,
    write_text,
)
from reticent.records.files import read_json
from reticent.report import wording
from reticent.report.citations import cite
from reticent.report.figures import calibration_figure, roc_figure, tradeoff_figure


def render_report(run: RunFolder) -> str:
    """HTML without scripts, links or anything to load; it shows metrics on private patients and stays inside.

    Raises:
        InputError: a record of the run is missing or was altered.
    """
    statement, metrics, study = run.statement(), run.metrics(), run.study()
    return (
        _environment()
        .get_template("report.html")
        .render(
            statement=statement,
            verdict=wording.verdict(statement),
            unit="patient" if statement.unit == "subject" else "record",
            sampling=wording.sampling(statement.sampling, "patient" if statement.unit == "subject" else "record"),
            smallest_group=SMALLEST_GROUP,
            attack_rates=wording.attack_rates(statement),
            tradeoff=_tradeoff(statement),
            state=run.state(),
            training_subjects=run.training_subjects(),
            study=study,
            study_text=study.to_toml(),
            mechanism_text=json.dumps(statement.mechanism, indent=2),
            metrics=metrics,
            splits=list(_splits(metrics)),
            findings=_findings(run),
            citations=cite(run),
        )
    )


def write_report(run: RunFolder) -> Path:
    """Render the report to `run.report`, readable by its owner alone, and return that path."""
    write_text(run.report, render_report(run), mode=0o600)
    return run.report


@dataclass(frozen=True)
class _Split:
    """One split with its twin and its figures."""

    private: SplitMetrics
    twin: SplitMetrics | None
    figures: tuple[tuple[str, Markup], ...]

    def groups(self, kind: Literal["class", "attribute"]) -> list[GroupMetrics]:
        return [group for group in self.private.groups if group.kind == kind]

    def columns(self, kind: Literal["class", "attribute"]) -> list[str]:
        return list(dict.fromkeys(name for group in self.groups(kind) for name in group.metrics))


def _splits(metrics: Metrics) -> Iterator[_Split]:
    twins = {twin.split: twin for twin in metrics.twin}
    for split in metrics.splits:
        twin = twins.get(split.split)
        yield _Split(split, twin, tuple(_figures(split, twin)))


def _figures(split: SplitMetrics, twin: SplitMetrics | None) -> Iterator[tuple[str, Markup]]:
    for name, title, draw in (("roc", "ROC curve", roc_figure), ("calibration", "Calibration", calibration_figure)):
        if split.curves.get(name):
            yield title, Markup(draw(split.curves[name], twin.curves.get(name) if twin else None))


def _tradeoff(statement: PrivacyStatement) -> Markup | None:
    if statement.epsilon.kind == "unbounded" or not any(beta for _, beta in statement.tradeoff):
        return None
    return Markup(tradeoff_figure(statement.tradeoff))


def _findings(run: RunFolder) -> list[tuple[str, list[tuple[str, str]]]]:
    return [(path.stem, list(_rows(read_json(path)))) for path in sorted(run.findings.glob("*.json"))]


def _rows(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested JSON as "a.b" and its value; lists of plain values stay in one row."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _rows(part, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and any(isinstance(part, dict | list) for part in value):
        for index, part in enumerate(value):
            yield from _rows(part, f"{name}[{index}]")
    else:
        yield name, _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_plain(part) for part in value)
    return value if isinstance(value, str) else f"{value:.4g}" if isinstance(value, float) else json.dumps(value)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reticent.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "number": wording.number,
        "kind": wording.kind,
        "measured": wording.measured,
        "interval": wording.interval,
        "metric_name": wording.metric_name,
        "counted": wording.counted,
    }
    return environment
