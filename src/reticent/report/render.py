"""The report of a run as one self-contained HTML page."""

from __future__ import annotations

import base64
import json
import mimetypes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reticent.records import (
    SMALLEST_GROUP,
    Finding,
    GroupMetrics,
    Measured,
    Metrics,
    PrivacyStatement,
    RunFolder,
    SplitMetrics,
    read_findings,
    write_text,
)
from reticent.report import wording
from reticent.report.agreement_figure import agreement_figure
from reticent.report.box_figure import box_figure
from reticent.report.citations import cite
from reticent.report.figures import calibration_figure, precision_recall_figure, roc_figure, tradeoff_figure
from reticent.report.slice_figure import slice_figure


def render_report(run: RunFolder) -> str:
    """HTML without scripts, links or anything to load; it shows metrics on private patients and stays inside.

    Raises:
        InputError: a record of the run is missing or was altered.
    """
    statement, metrics, study, findings = run.statement(), run.metrics(), run.study(), read_findings(run)
    return (
        _environment()
        .get_template("report.html")
        .render(
            statement=statement,
            verdict=wording.verdict(statement, findings),
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
            references={split.split: _references(metrics, split) for split in metrics.splits},
            attacked=_attacked(run, findings),
            explained=list(_explained(run)),
            examples=[_uri("image/png", box_figure(example)) for example in run.examples()],
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


_CURVES = (
    ("roc", "ROC curve", roc_figure),
    ("calibration", "Calibration", calibration_figure),
    ("precision_recall", "Boxes at IoU 0.5, all classes", precision_recall_figure),
    ("counting", "Counts, wherever boxes lie", precision_recall_figure),
)


@dataclass(frozen=True)
class _References:
    """Metrics of the network and of the reference models on one split, by model."""

    columns: list[str]
    rows: dict[str, dict[str, Measured]]


def _references(metrics: Metrics, split: SplitMetrics) -> _References:
    rows = {
        name: dict(own.metrics)
        for name, splits in metrics.references.items()
        for own in splits
        if own.split == split.split
    }
    columns = list(next(iter(rows.values()), {}))
    return _References(columns, {"this model": dict(split.metrics), **rows})


def _figures(split: SplitMetrics, twin: SplitMetrics | None) -> Iterator[tuple[str, Markup]]:
    for name, title, draw in _CURVES:
        if split.curves.get(name):
            yield title, Markup(draw(split.curves[name], twin.curves.get(name) if twin else None))
    for name, pairs in split.curves.items():
        if name.startswith("agreement "):
            target = name.removeprefix("agreement ")
            drawn = agreement_figure(pairs, twin.curves.get(name) if twin else None, target)
            yield f"Agreement on {target}, with bias and limits", Markup(drawn)


def _tradeoff(statement: PrivacyStatement) -> Markup | None:
    if statement.epsilon.kind == "unbounded" or not any(beta for _, beta in statement.tradeoff):
        return None
    return Markup(tradeoff_figure(statement.tradeoff))


@dataclass(frozen=True)
class _Attacked:
    """What was attacked in one way: the findings of the newest audit that did so."""

    asset: str
    attack: str
    adversary: str
    findings: list[Finding]
    folder: Path

    @property
    def figures(self) -> Iterator[tuple[str, str | None]]:
        """Name and data URI of each figure; None for one that was erased."""
        for name in dict.fromkeys(name for finding in self.findings for name in finding.figures):
            path = self.folder / name
            yield name, _data_uri(path) if path.is_file() else None

    @property
    def left_out(self) -> list[str]:
        return list(dict.fromkeys(gap for finding in self.findings for gap in finding.left_out))

    @property
    def settings(self) -> str:
        """Of the last finding, with its seed; but for `tables`."""
        last = self.findings[-1]
        told = last.settings | ({} if last.seed is None else {"seed": last.seed})
        return ", ".join(f"{name}: {wording.plain(value)}" for name, value in told.items() if not _is_table(value))

    @property
    def tables(self) -> Iterator[tuple[str, list[list[str]]]]:
        """Settings that are lists of the same values, such as one for each amount of noise: a line for each value."""
        for name, rows in self.findings[-1].settings.items():
            if _is_table(rows):
                yield name, [[key, *(wording.plain(row[key]) for row in rows)] for key in rows[0]]


def _is_table(setting: object) -> bool:
    return isinstance(setting, list) and bool(setting) and all(isinstance(row, dict) for row in setting)


def _attacked(run: RunFolder, findings: Iterable[Finding]) -> list[_Attacked]:
    """By asset and attack, in the order of first appearance.

    A later audit's finding replaces an earlier one in the same metric, unless that contradicted its guarantee.
    """
    found: dict[tuple[str, str, str], dict[str, Finding]] = {}
    for finding in findings:
        own = found.setdefault((finding.asset, finding.attack, finding.adversary), {})
        if finding.exceeds or finding.metric not in own or not own[finding.metric].exceeds:
            own[finding.metric] = finding
    return [_Attacked(*key, list(own.values()), run.private / "audits" / key[1]) for key, own in found.items()]


def _explained(run: RunFolder) -> Iterator[tuple[str, str]]:
    """Caption and data URI of what slices gave to predictions on held-out patients."""
    for number, found in enumerate(run.explanations(), start=1):
        told = f"predicted {found.classes[found.predicted]}, in truth {found.truth}"
        if (agreed := found.agreement) is not None:
            told += (
                f"; of HiResCAM {agreed['HiResCAM inside']:.0%} lies inside the drawn mask, which fills "
                f"{agreed['mask']:.0%}; rank correlation over slices with its area: contribution "
                f"{agreed['contribution']:.2f}, attention {agreed['attention']:.2f}, HiResCAM "
                f"{agreed['HiResCAM by slice']:.2f}"
            )
        yield told, _uri("image/png", slice_figure(found, f"held-out record {number}"))


def _data_uri(image: Path) -> str:
    return _uri(str(mimetypes.guess_type(image.name)[0]), image.read_bytes())


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


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
        "achieved": wording.achieved,
        "guaranteed": wording.guaranteed,
        "plain": wording.plain,
    }
    return environment
