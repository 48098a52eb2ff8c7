"""Training: the clipped sum, Poisson sampling of subjects, noise, and the run that holds them together."""

from reticent.training.banded_strategy import column_norm, strategy_coefficients
from reticent.training.clipping_bias import ClippingBias, clipping_bias
from reticent.training.crops import write_crops
from reticent.training.crossval.plan import Folds
from reticent.training.crossval.run import cross_validate
from reticent.training.engine import (
    BatchAdapter,
    ClippedGrad,
    LossFn,
    PrivateTensor,
    check_independence,
    chosen_strategies,
    clipped_grad,
    strategy,
)
from reticent.training.estimate import Cost, estimate
from reticent.training.evaluation import (
    CountingCurve,
    auc_report,
    compare_auc,
    counting_curve,
    hanley_mcneil,
    mean_average_precision,
)
from reticent.training.frozen_features import FrozenFeatures
from reticent.training.held_out import held_out_metrics
from reticent.training.inspection import Inspection, inspect_model, public_gradients
from reticent.training.langevin import at_temperature, effective_temperature, run_temperature, uncertainty
from reticent.training.network import new_model, new_network
from reticent.training.plan import Plan, make_plan
from reticent.training.prediction import forward, predict
from reticent.training.predictor import Predictor, released_model
from reticent.training.prepared_cohort import PreparedCohort, Progress, preprocessing_of
from reticent.training.private_activation import PrivateActivation, bound_records, check_private_activations
from reticent.training.private_features import PrivateFeatures, private_features_mechanism, privatise_features
from reticent.training.private_run import PrivateRun, Step
from reticent.training.private_step import bounded_gradients, private_step, ready_batch
from reticent.training.publishing import weak_delta
from reticent.training.ranks import Ranks, join_ranks
from reticent.training.sharding import local_model, outer_names
from reticent.training.study_cohort import cohort_of, open_study_cohort
from reticent.training.sweep import run_sweep, summary
from reticent.training.tasks import (
    Classification,
    Detection,
    GuidedClassification,
    ProbabilityTask,
    Regression,
    Restoration,
    Segmentation,
    Task,
    make_task,
    segment,
    shrinkage_loss,
)
from reticent.training.train import check_study, resume_training, train

__all__ = [
    "BatchAdapter",
    "ClippedGrad",
    "ClippingBias",
    "Cost",
    "Folds",
    "CountingCurve",
    "Detection",
    "FrozenFeatures",
    "Inspection",
    "LossFn",
    "Plan",
    "Predictor",
    "PreparedCohort",
    "PrivateActivation",
    "PrivateFeatures",
    "PrivateRun",
    "PrivateTensor",
    "Progress",
    "Ranks",
    "Step",
    "ProbabilityTask",
    "Classification",
    "GuidedClassification",
    "Regression",
    "Restoration",
    "Segmentation",
    "Task",
    "auc_report",
    "compare_auc",
    "cross_validate",
    "forward",
    "hanley_mcneil",
    "make_task",
    "cohort_of",
    "open_study_cohort",
    "segment",
    "shrinkage_loss",
    "at_temperature",
    "bound_records",
    "bounded_gradients",
    "check_independence",
    "check_private_activations",
    "check_study",
    "chosen_strategies",
    "clipped_grad",
    "clipping_bias",
    "column_norm",
    "counting_curve",
    "effective_temperature",
    "estimate",
    "held_out_metrics",
    "inspect_model",
    "join_ranks",
    "local_model",
    "make_plan",
    "mean_average_precision",
    "new_model",
    "new_network",
    "outer_names",
    "public_gradients",
    "predict",
    "preprocessing_of",
    "private_features_mechanism",
    "private_step",
    "privatise_features",
    "ready_batch",
    "released_model",
    "resume_training",
    "run_sweep",
    "run_temperature",
    "strategy",
    "strategy_coefficients",
    "summary",
    "train",
    "uncertainty",
    "write_crops",
    "weak_delta",
]
