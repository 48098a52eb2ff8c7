"""Predictions on held-out patients and their metrics. Reads private records; no guarantee covers what it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reticent.data import Preprocessing
from reticent.records import SplitMetrics
from reticent.training.evaluation import evaluate_classification, evaluate_segmentation, segmentation_scores
from reticent.training.prepared_cohort import PreparedCohort
from reticent.training.task import Task, forward

_CHUNK = 32


@torch.no_grad()
def predict(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Logits in evaluation mode, a chunk at a time."""
    model.eval()
    count = len(next(iter(inputs.values())))
    chunks = [
        forward(model, {name: x[start : start + _CHUNK] for name, x in inputs.items()})
        for start in range(0, count, _CHUNK)
    ]
    return torch.cat(chunks)


def held_out_metrics(model: nn.Module, data: PreparedCohort, task: Task) -> tuple[SplitMetrics, ...]:
    """Metrics of the validation and test splits, as far as the cohort has them."""
    return tuple(_split_metrics(model, data, task, split) for split in ("val", "test") if split in data.splits)


def _split_metrics(model: nn.Module, data: PreparedCohort, task: Task, split: str) -> SplitMetrics:
    cohort = data.cohort
    records = [
        i
        for i, own in enumerate(data.splits)
        if own == split and (task.segments or cohort.entries[i].label is not None)
    ]
    subjects = [str(cohort.entries[i].subject) for i in records]
    attributes = [cohort.entries[i].attributes for i in records]
    if task.segments:
        scores = [_segmentation(model, data, task, i) for i in records]
        dice, hd95 = (np.stack(values) for values in zip(*scores, strict=True))
        return evaluate_segmentation(dice, hd95, subjects, attributes, task.classes, split)
    probabilities, targets = _classify(model, data, task, records)
    return evaluate_classification(
        cohort.task,  # type: ignore[arg-type]  # "segmentation" went another way above
        probabilities,
        targets,
        subjects,
        attributes,
        task.classes,
        split,
    )


def _classify(
    model: nn.Module, data: PreparedCohort, task: Task, records: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    probabilities, targets = [], []
    for start in range(0, len(records), 8 * _CHUNK):
        batch = data.batch(records[start : start + 8 * _CHUNK])
        probabilities.append(task.probabilities(predict(model, batch["inputs"])).numpy())
        targets.append(batch["targets"]["label"].numpy())
    return np.concatenate(probabilities), np.concatenate(targets)


def _segmentation(model: nn.Module, data: PreparedCohort, task: Task, record: int) -> tuple[np.ndarray, np.ndarray]:
    """Dice and Hausdorff distance (in voxels) on the record's own grid."""
    loaded = data.cohort.load(record)
    truth = loaded.targets["mask"]
    mask = segment(model, data.batch([record])["inputs"], truth.shape, data.preprocessing, loaded.spacing)
    return segmentation_scores(mask, truth, len(task.classes), [1.0] * truth.ndim)


def segment(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    shape: tuple[int, ...],
    preprocessing: Preprocessing,
    spacing: tuple[float, ...] | None,
) -> np.ndarray:
    """Label of every pixel or voxel of one record on its own grid, of this shape and spacing.

    Logits are interpolated to that grid; where the record was cut to a declared spacing, labels are put back instead.
    """
    logits = predict(model, inputs)
    if preprocessing.spacing is not None:
        return preprocessing.restore(logits.argmax(1)[0].numpy(), shape, spacing)
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    return F.interpolate(logits, size=shape, mode=mode, align_corners=False).argmax(1)[0].numpy()
