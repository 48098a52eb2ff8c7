"""What each slice gave to a prediction, and examples of it from held-out patients for the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from reticent.models import SliceClassifier, hirescam
from reticent.records import SliceExplanation
from reticent.training.prepared_cohort import PreparedCohort

_MOST_CLASSES = 4


def slice_explanation(model: SliceClassifier, volume: Tensor, classes: Sequence[str]) -> SliceExplanation:
    """Of one volume (1, C, D, H, W), beside HiResCAM of the class with the largest logit."""
    with torch.no_grad():
        out = model.eval().explain(volume)
    predicted = int(out.logits[0].argmax())
    return SliceExplanation(
        classes=tuple(classes),
        predicted=predicted,
        axes=model.axes,
        slices=tuple(volume[0, 0].detach().movedim(axis, 0).numpy() for axis in model.axes),
        maps=tuple(found.numpy() for found in hirescam(model, volume, predicted)),
        weights=out.weights[0].numpy(),
        contributions=out.contributions[0].numpy(),
        constant=out.constant.detach().numpy(),
    )


def held_out_explanations(model: SliceClassifier, data: PreparedCohort) -> Iterator[SliceExplanation]:
    """Of the first held-out record of each class, the test split's before others. Private, and chosen by no result."""
    first: dict[int, int] = {}
    for split in ("test", "val"):
        for i, (entry, own) in enumerate(zip(data.cohort.entries, data.splits, strict=True)):
            if own == split and isinstance(entry.label, int):
                first.setdefault(entry.label, i)
    for label, record in sorted(first.items())[:_MOST_CLASSES]:
        (volume,) = data.batch([record])["inputs"].values()
        found = slice_explanation(model, volume, data.task.classes)
        mask = data.mask(record)
        agreement = None if mask is None or not mask.any() else found.agreement_with(mask)
        yield replace(found, truth=data.task.classes[label], agreement=agreement)
