"""Training: the clipped sum, Poisson sampling of subjects, noise, and the run that holds them together."""

from reticent.training.clipped_grad import BatchAdapter, ClippedGrad, PrivateTensor, clipped_grad
from reticent.training.held_out import held_out_metrics, predict, segment
from reticent.training.model_check import check_model
from reticent.training.plan import Plan, make_plan
from reticent.training.prepared_cohort import PreparedCohort, Progress
from reticent.training.private_run import PrivateRun, Step
from reticent.training.task import Task
from reticent.training.train import check_trainable, new_model, resume_training, train
from reticent.training.weights import load_released

__all__ = [
    "BatchAdapter", "ClippedGrad", "Plan", "PreparedCohort", "PrivateRun", "PrivateTensor", "Progress", "Step", "Task",
    "check_model", "check_trainable", "clipped_grad", "held_out_metrics", "load_released", "make_plan", "new_model",
    "predict", "resume_training", "segment", "train",
]
