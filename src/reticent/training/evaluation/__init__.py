"""Metrics on held-out patients. They read private records: no guarantee covers them, and they choose nothing."""

from reticent.training.evaluation.classification import Kind, evaluate_classification
from reticent.training.evaluation.detection import COUNTED_FROM, evaluate_detection
from reticent.training.evaluation.precision_recall import CountingCurve, counting_curve, mean_average_precision
from reticent.training.evaluation.regression import evaluate_regression
from reticent.training.evaluation.segmentation import evaluate_segmentation, segmentation_scores

__all__ = [
    "COUNTED_FROM", "CountingCurve", "Kind", "counting_curve", "evaluate_classification", "evaluate_detection",
    "evaluate_regression", "evaluate_segmentation", "mean_average_precision", "segmentation_scores",
]  # fmt: skip
