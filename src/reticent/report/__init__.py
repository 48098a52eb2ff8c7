"""Reports: what a run guarantees, measured and used, for readers inside the hospital. Computes nothing new."""

from reticent.report.box_figure import save_box_figure
from reticent.report.citations import cite
from reticent.report.crossval import crossval_cells, save_crossval_figure
from reticent.report.reconciliation import write_reconciliation
from reticent.report.reconciliation_figure import save_reconciliation_figure
from reticent.report.render import render_report, write_report
from reticent.report.slice_figure import save_slice_figure
from reticent.report.tables import latex, latex_table, markdown, markdown_table
from reticent.report.wording import achieved, guaranteed

__all__ = [
    "achieved", "cite", "crossval_cells", "guaranteed", "latex", "latex_table", "markdown", "markdown_table",
    "render_report", "save_box_figure", "save_crossval_figure", "save_reconciliation_figure",
    "save_slice_figure", "write_reconciliation", "write_report",
]  # fmt: skip
