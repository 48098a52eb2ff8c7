"""Metrics on held-out patients. They read private records: no guarantee covers them, and they choose nothing."""

from reticent.training.evaluation.classification import Kind, evaluate_classification
from reticent.training.evaluation.delong import (
    Comparison,
    auc_report,
    auc_standard_error,
    compare_auc,
    hanley_mcneil,
)
from reticent.training.evaluation.segmentation import evaluate_segmentation, segmentation_scores

__all__ = [
    "Comparison",
    "Kind",
    "auc_report",
    "auc_standard_error",
    "compare_auc",
    "evaluate_classification",
    "evaluate_segmentation",
    "hanley_mcneil",
    "segmentation_scores",
]
