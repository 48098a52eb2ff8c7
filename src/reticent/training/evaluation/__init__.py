"""Metrics on held-out patients. They read private records: no guarantee covers them, and they choose nothing."""

from reticent.training.evaluation.classification import Kind, evaluate_classification
from reticent.training.evaluation.regression import evaluate_regression
from reticent.training.evaluation.segmentation import evaluate_segmentation, segmentation_scores

__all__ = ["Kind", "evaluate_classification", "evaluate_regression", "evaluate_segmentation", "segmentation_scores"]
