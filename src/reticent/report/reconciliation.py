"""The reconciliation of a sweep as one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reticent.records import Reconciliation, budget_name, write_text
from reticent.report import wording
from reticent.report.reconciliation_figure import reconciliation_svg


def render_reconciliation(record: Reconciliation) -> str:
    """HTML without scripts, links or anything to load; it stays inside."""
    environment = Environment(
        loader=PackageLoader("reticent.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"number": wording.number, "share": _share, "budget": budget_name}
    figure = Markup(reconciliation_svg(record))
    return environment.get_template("reconciliation.html").render(record=record, figure=figure)


def write_reconciliation(record: Reconciliation, path: Path) -> None:
    """Render the page to `path`, readable by its owner alone."""
    write_text(path, render_reconciliation(record), mode=0o600)


def _share(value: float | None) -> str:
    """A probability in per cent; what is small is not called zero."""
    if value is None:
        return ""
    percent = 100 * value
    return f"{percent:.3g} %" if value == 0 or percent >= 0.01 else "< 0.01 %"
