"""Records: the study, the run folder, the privacy statement, the journal and the metrics, each with its schema."""

from reticent.records.campaign import CampaignState, PlannedPhase
from reticent.records.files import read_json, write_file, write_json, write_text
from reticent.records.journal import Journal
from reticent.records.metrics import SMALLEST_GROUP, GroupMetrics, Measured, Metrics, SplitMetrics
from reticent.records.overriding import put_over
from reticent.records.run_folder import RunFolder, RunState, default_run_path, new_run_id, now, read_record
from reticent.records.statement import Number, PrivacyStatement, privacy_numbers, round_up
from reticent.records.study import (
    CohortOptions,
    ModelOptions,
    PrivacyOptions,
    Study,
    TrainingOptions,
    make_study,
    read_study,
)
from reticent.records.sweep import Configuration, Sweep, make_sweep

__all__ = [
    "SMALLEST_GROUP",
    "CampaignState",
    "CohortOptions",
    "Configuration",
    "GroupMetrics",
    "Journal",
    "Measured",
    "Metrics",
    "ModelOptions",
    "Number",
    "PlannedPhase",
    "PrivacyOptions",
    "PrivacyStatement",
    "RunFolder",
    "RunState",
    "SplitMetrics",
    "Study",
    "Sweep",
    "TrainingOptions",
    "default_run_path",
    "make_study",
    "make_sweep",
    "new_run_id",
    "now",
    "privacy_numbers",
    "put_over",
    "read_json",
    "read_record",
    "read_study",
    "round_up",
    "write_file",
    "write_json",
    "write_text",
]
