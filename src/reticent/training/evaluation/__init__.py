"""Metrics on held-out patients. They read private records: no guarantee covers them, and they choose nothing."""

from reticent.training.evaluation.classification import Kind, evaluate_classification
from reticent.training.evaluation.delong import (
    Comparison,
    auc_report,
    auc_standard_error,
    compare_auc,
    hanley_mcneil,
)
from reticent.training.evaluation.detection import COUNTED_FROM, evaluate_detection
from reticent.training.evaluation.matching import intersection_over_union
from reticent.training.evaluation.precision_recall import CountingCurve, counting_curve, mean_average_precision
from reticent.training.evaluation.regression import evaluate_regression
from reticent.training.evaluation.restoration import evaluate_restoration
from reticent.training.evaluation.segmentation import evaluate_segmentation, segmentation_scores

__all__ = [
    "COUNTED_FROM", "Comparison", "CountingCurve", "Kind", "auc_report", "auc_standard_error", "compare_auc",
    "counting_curve", "evaluate_classification", "evaluate_detection", "evaluate_regression", "evaluate_restoration",
    "evaluate_segmentation", "hanley_mcneil", "intersection_over_union", "mean_average_precision",
    "segmentation_scores",
]  # fmt: skip
