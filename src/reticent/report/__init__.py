"""Reports: what a run guarantees, measured and used, for readers inside the hospital. Computes nothing new."""

from reticent.report.citations import cite
from reticent.report.render import render_report, write_report

__all__ = ["cite", "render_report", "write_report"]
