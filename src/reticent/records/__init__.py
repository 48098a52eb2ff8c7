"""Records: study, run folder, privacy statement, journal, metrics and findings of audits, each with its schema."""

from reticent.records.campaign import CampaignState, PlannedPhase
from reticent.records.crossval import Compared, Crossval, Difference
from reticent.records.detections import DetectionExample, Detections
from reticent.records.files import csv_text, read_json, whole_folder, write_file, write_json, write_text
from reticent.records.findings import GAP_LEVEL, Finding, Interval, append_finding, read_findings
from reticent.records.journal import Journal
from reticent.records.metrics import HEADLINES, SMALLEST_GROUP, GroupMetrics, Measured, Metrics, SplitMetrics, headline
from reticent.records.options import CohortOptions, ModelOptions, PrivacyOptions, TrainingOptions
from reticent.records.overriding import put_over
from reticent.records.part_options import FoldOptions
from reticent.records.reconciliation import LARGE_EPSILON, Budget, Performance, Reconciliation, budget_name
from reticent.records.ridge_options import RIDGE
from reticent.records.run_folder import RunFolder, RunState, default_run_path, new_run_id, now, read_record
from reticent.records.slice_explanation import SliceExplanation
from reticent.records.statement import Number, PrivacyStatement, privacy_numbers, round_up
from reticent.records.study import Study, make_study, read_study
from reticent.records.sweep import Configuration, Sweep, make_sweep

__all__ = [
    "GAP_LEVEL",
    "HEADLINES",
    "LARGE_EPSILON",
    "RIDGE",
    "SMALLEST_GROUP",
    "Budget",
    "DetectionExample",
    "Detections",
    "CampaignState",
    "CohortOptions",
    "Compared",
    "Configuration",
    "Crossval",
    "Difference",
    "Finding",
    "FoldOptions",
    "GroupMetrics",
    "Interval",
    "Journal",
    "Measured",
    "Metrics",
    "ModelOptions",
    "Number",
    "Performance",
    "PlannedPhase",
    "PrivacyOptions",
    "PrivacyStatement",
    "Reconciliation",
    "RunFolder",
    "RunState",
    "SliceExplanation",
    "SplitMetrics",
    "Study",
    "Sweep",
    "TrainingOptions",
    "append_finding",
    "budget_name",
    "csv_text",
    "default_run_path",
    "headline",
    "make_study",
    "make_sweep",
    "new_run_id",
    "now",
    "privacy_numbers",
    "put_over",
    "read_findings",
    "read_json",
    "read_record",
    "read_study",
    "round_up",
    "whole_folder",
    "write_file",
    "write_json",
    "write_text",
]
