"""Tasks: what a network is asked for. A new kind of task is a file here and a row in the table."""

from reticent.data import Cohort
from reticent.records import RunState, TrainingOptions
from reticent.training.tasks.classification import Classification
from reticent.training.tasks.detection import Detection, annotated_objects, detections
from reticent.training.tasks.guided_classification import GuidedClassification
from reticent.training.tasks.regression import SHRINKAGE, Regression, shrinkage_loss
from reticent.training.tasks.restoration import Restoration
from reticent.training.tasks.segmentation import Segmentation, segment
from reticent.training.tasks.task import ProbabilityTask, Task

__all__ = [
    "Classification",
    "Detection",
    "GuidedClassification",
    "ProbabilityTask",
    "Regression",
    "Restoration",
    "Segmentation",
    "Task",
    "annotated_objects",
    "detections",
    "make_task",
    "segment",
    "shrinkage_loss",
]

_KINDS: dict[str, type[Task]] = {
    "binary": Classification,
    "multi-class": Classification,
    "multi-label": Classification,
    "segmentation": Segmentation,
    "detection": Detection,
    "restoration": Restoration,
}


def make_task(of: Cohort | RunState, training: TrainingOptions | None = None) -> Task:
    """The task of a cohort or of a run, with the loss that is declared for it."""
    if training is not None and training.mask_weight is not None:
        return GuidedClassification(of.task, of.classes, training.mask_weight)
    if of.task == "regression":
        shrinks = training is not None and training.loss == "shrinkage"
        declared = (training.shrinkage if training is not None else None) or SHRINKAGE
        return Regression(of.task, of.classes, of.ranges, declared if shrinks else None)
    return _KINDS[of.task](of.task, of.classes)
