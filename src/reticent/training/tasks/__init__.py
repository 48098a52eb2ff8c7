"""Tasks: what a network is asked for. A new kind of task is a file here and a row in the table."""

from reticent.data import Cohort
from reticent.records import RunState
from reticent.training.tasks.classification import Classification
from reticent.training.tasks.segmentation import Segmentation, segment
from reticent.training.tasks.task import ProbabilityTask, Task

__all__ = ["Classification", "ProbabilityTask", "Segmentation", "Task", "make_task", "segment"]

_KINDS: dict[str, type[Task]] = {
    "binary": Classification,
    "multi-class": Classification,
    "multi-label": Classification,
    "segmentation": Segmentation,
}


def make_task(of: Cohort | RunState) -> Task:
    """The task of a cohort or of a run."""
    return _KINDS[of.task](of.task, of.classes)
