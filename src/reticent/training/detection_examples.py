"""Examples of what a detector finds in images of held-out patients, for the report."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from reticent.records import DetectionExample
from reticent.training.evaluation import COUNTED_FROM
from reticent.training.prediction import predict
from reticent.training.prepared_cohort import PreparedCohort
from reticent.training.tasks import annotated_objects, detections

_SHOWN = 3


def held_out_examples(model: nn.Module, data: PreparedCohort) -> Iterator[DetectionExample]:
    """Of the first held-out records, the test split's before others. Private, and chosen by no result."""
    held_out = [i for split in ("test", "val") for i, own in enumerate(data.splits) if own == split]
    for i in held_out[:_SHOWN]:
        loaded = data.cohort.load(i)
        image = next(iter(loaded.inputs.values()))
        maps = predict(model, data.batch([i])["inputs"])[0]
        found = detections(maps, image.shape[1:], data.preprocessing, loaded.spacing).above(COUNTED_FROM)
        yield DetectionExample(image, found, annotated_objects(loaded.targets), data.task.classes)
