"""What each slice gave to a prediction, and examples of it from held-out patients for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from reticent.models import SliceClassifier, convolution_calls, hirescam_maps
from reticent.records import SliceExplanation
from reticent.training.memory_format import differentiable
from reticent.training.prediction import network_inputs
from reticent.training.prepared_cohort import PreparedCohort

_MOST_CLASSES = 4


def slice_explanation(
    model: SliceClassifier, inputs: Mapping[str, Tensor], classes: Sequence[str]
) -> tuple[Tensor, SliceExplanation]:
    """Logits (1, K) of one record with a volume (1, C, D, H, W), and where they come from.

    Beside HiResCAM of the class with the largest logit, all by one forward pass.
    """
    with convolution_calls(model.eval()) as calls:
        out = model.explain(network_inputs(differentiable(inputs)))
    predicted = int(out.logits[0].argmax())
    maps = hirescam_maps(out.logits[0, predicted], calls)
    volume = next(iter(inputs.values()))[0, 0]
    sides = [volume.shape[axis] for axis in model.axes]
    there = torch.ones(sum(sides), dtype=torch.bool) if out.mask is None else out.mask[0]
    own = [_without_padding(along) for along in there.split(sides)]
    return out.logits.detach(), SliceExplanation(
        classes=tuple(classes),
        predicted=predicted,
        axes=model.axes,
        slices=tuple(volume.movedim(axis, 0)[kept].numpy() for axis, kept in zip(model.axes, own, strict=True)),
        maps=tuple(found[kept].numpy() for found, kept in zip(maps, own, strict=True)),
        weights=out.weights[0, there].detach().numpy(),
        contributions=out.contributions[0, there].detach().numpy(),
        constant=out.constant.detach().numpy(),
        first=tuple(kept.start for kept in own),
    )


def _without_padding(there: Tensor) -> slice:
    """Where a volume lies along an axis that is padded around it."""
    places = there.nonzero()
    return slice(int(places[0]), int(places[-1]) + 1)


def held_out_explanations(model: SliceClassifier, data: PreparedCohort) -> Iterator[SliceExplanation]:
    """Of the first held-out record of each class, the test split's before others. Private, and chosen by no result."""
    first: dict[int, int] = {}
    for split in ("test", "val"):
        for i, (entry, own) in enumerate(zip(data.cohort.entries, data.splits, strict=True)):
            if own == split and isinstance(entry.label, int):
                first.setdefault(entry.label, i)
    for label, record in sorted(first.items())[:_MOST_CLASSES]:
        _, found = slice_explanation(model, data.batch([record])["inputs"], data.task.classes)
        mask = data.mask(record)
        agreement = None if mask is None or not mask.any() else found.agreement_with(mask)
        yield replace(found, truth=data.task.classes[label], agreement=agreement)
