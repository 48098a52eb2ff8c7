"""A box around each object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Generator, Tensor, nn

from reticent.data import Preprocessing, clip_boxes
from reticent.models import Output
from reticent.records import Detections, SplitMetrics
from reticent.training.centre_maps import boxes_of_maps, centre_loss, grid_of
from reticent.training.evaluation import evaluate_detection, intersection_over_union
from reticent.training.prediction import CHUNK, predict
from reticent.training.tasks.task import Task

if TYPE_CHECKING:
    from reticent.training.prepared_cohort import PreparedCohort

_MOST = 100
_LEAST_SCORE = 0.01
_SAME_OBJECT, _SAME_BOX = 0.5, 0.98
_MADE_UP = 8


@dataclass(frozen=True)
class Detection(Task):
    """`classes` names the objects. Networks give maps of centres and sizes (`centre_maps`)."""

    kind: str = "detection"
    classes: tuple[str, ...] = ("object",)
    output: ClassVar[Output] = "boxes"
    largest_side: ClassVar[Mapping[int, int]] = {2: 160, 3: 32}
    size_multiple: ClassVar[int] = 4
    keeps_aspect: ClassVar[bool] = True

    def output_shape(self, image_size: tuple[int, ...]) -> tuple[int, ...]:
        return len(self.classes) + 4, *grid_of(image_size)

    def losses(self, outputs: Tensor, targets: Mapping[str, Tensor], weights: Tensor | None) -> Tensor:
        """See `centre_loss`; weights multiply the terms of a class."""
        return centre_loss(outputs, targets["boxes"], targets["objects"], weights)

    def made_up_targets(self, count: int, image_size: tuple[int, ...], generator: Generator) -> dict[str, Tensor]:
        sides = torch.tensor([image_size[1], image_size[0]] * 2)
        corners = torch.rand(count, _MADE_UP, 2, 2, generator=generator).sort(2).values.flatten(2)
        objects = torch.randint(len(self.classes), (count, _MADE_UP), generator=generator)
        return {"boxes": corners * sides, "objects": objects}

    def evaluate(self, model: nn.Module, data: PreparedCohort, records: Sequence[int], split: str) -> SplitMetrics:
        """Average precision and counts in each image's own pixels."""
        found, truth = list[Detections](), list[Detections]()
        for start in range(0, len(records), CHUNK):
            part = records[start : start + CHUNK]
            for i, maps in zip(part, predict(model, data.batch(part)["inputs"]), strict=True):
                loaded = data.cohort.load(i)
                shape = next(iter(loaded.inputs.values())).shape[1:]
                found.append(detections(maps, shape, data.preprocessing, loaded.spacing))
                truth.append(annotated_objects(loaded.targets))
        entries = [data.cohort.entries[i] for i in records]
        subjects, attributes = [str(entry.subject) for entry in entries], [entry.attributes for entry in entries]
        return evaluate_detection(found, truth, subjects, attributes, self.classes, split)


def detections(
    maps: Tensor, shape: tuple[int, ...], preprocessing: Preprocessing, spacing: tuple[float, ...] | None
) -> Detections:
    """What maps (K + 4, h, w) show, in the pixels of the image of this shape: up to 100 objects of a score from 0.01.

    Of boxes of a class that overlap by more than 0.5 (IoU) the one with the highest score is left, and of boxes of
    different classes by more than 0.98 (Ziller et al. 2019). All this sees nothing but the maps.
    """
    boxes, scores, classes = (value.double().numpy() for value in boxes_of_maps(maps, _MOST))
    placed = preprocessing.placement(shape, spacing).backward(boxes)
    clipped, kept = clip_boxes(placed, np.where(scores >= _LEAST_SCORE, classes, -1).astype(int), (shape[0], shape[1]))
    seen = Detections(clipped, scores, kept).at(kept >= 0)
    return suppressed(suppressed(seen, _SAME_OBJECT, by_class=True), _SAME_BOX, by_class=False)


def suppressed(found: Detections, overlap: float, *, by_class: bool) -> Detections:
    """Those that overlap none that is kept of a higher score (of their class, or of any) by more than this (IoU)."""
    close = intersection_over_union(found.boxes, found.boxes) > overlap
    if by_class:
        close &= found.classes[:, None] == found.classes
    kept: list[int] = []
    for i in range(len(close)):
        if not close[i, kept].any():
            kept.append(i)
    return found.at(np.array(kept, np.intp))


def annotated_objects(targets: Mapping[str, np.ndarray]) -> Detections:
    """The objects of a record's targets, each of score 1."""
    there = targets["objects"] >= 0
    objects = targets["objects"][there]
    return Detections(targets["boxes"][there].astype(float), np.ones(len(objects)), objects)
