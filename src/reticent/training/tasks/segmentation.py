"""A label of each pixel or voxel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from reticent.data import Preprocessing
from reticent.models import Output
from reticent.records import SplitMetrics
from reticent.training.evaluation import evaluate_segmentation, segmentation_scores
from reticent.training.prediction import forward, predict
from reticent.training.tasks.task import ProbabilityTask

if TYPE_CHECKING:
    from reticent.training.prepared_cohort import PreparedCohort


@dataclass(frozen=True)
class Segmentation(ProbabilityTask):
    """`classes` are the labels of masks, background first."""

    kind: str = "segmentation"
    classes: tuple[str, ...] = ("background", "foreground")
    output: ClassVar[Output] = "mask"
    size_multiple: ClassVar[int] = 4

    def output_shape(self, image_size: tuple[int, ...]) -> tuple[int, ...]:
        return len(self.classes), *image_size

    def losses(self, outputs: Tensor, targets: Mapping[str, Tensor], weights: Tensor | None) -> Tensor:
        """Voxel-wise cross-entropy plus one minus the soft Dice over the foreground labels (Milletari et al. 2016)."""
        mask = targets["mask"]
        cross_entropy = F.cross_entropy(outputs, mask, reduction="none", weight=weights).flatten(1).mean(1)
        probabilities = outputs.softmax(1)[:, 1:].flatten(2)
        # not F.one_hot, which reads values and so cannot be vectorised over records
        labels = torch.arange(1, outputs.shape[1], device=mask.device)[:, None]
        truth = (mask.flatten(1)[:, None] == labels).to(probabilities)
        overlap = 2 * (probabilities * truth).sum(2) + 1
        dice = overlap / (probabilities.sum(2) + truth.sum(2) + 1)
        return cross_entropy + 1 - dice.mean(1)

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(1)

    def made_up_targets(self, count: int, image_size: tuple[int, ...], generator: Generator) -> dict[str, Tensor]:
        return {"mask": torch.randint(len(self.classes), (count, *image_size), generator=generator)}

    def evaluate(self, model: nn.Module, data: PreparedCohort, records: Sequence[int], split: str) -> SplitMetrics:
        """Dice and Hausdorff distance (in voxels) on each record's own grid."""
        entries, scores = [data.cohort.entries[i] for i in records], list[tuple[np.ndarray, np.ndarray]]()
        for i in records:
            loaded = data.cohort.load(i)
            truth = loaded.targets["mask"]
            mask = segment(model, data.whole(i), truth.shape, data.preprocessing, loaded.spacing)
            scores.append(segmentation_scores(mask, truth, len(self.classes), [1.0] * truth.ndim))
        dice, hd95 = (np.stack(values) for values in zip(*scores, strict=True))
        subjects, attributes = [str(entry.subject) for entry in entries], [entry.attributes for entry in entries]
        return evaluate_segmentation(dice, hd95, subjects, attributes, self.classes, split)


def segment(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    shape: tuple[int, ...],
    preprocessing: Preprocessing,
    spacing: tuple[float, ...] | None,
) -> np.ndarray:
    """Label of every pixel or voxel of one record on its own grid, of this shape and spacing.

    Networks of patches slide over the record with half a patch of overlap, their logits averaged with Gaussian weights
    (Isensee et al. 2021). Logits are interpolated to the record's grid.
    """
    logits = predict(model, inputs) if preprocessing.least is None else _slide(model, inputs, preprocessing.least)
    on_grid = torch.from_numpy(preprocessing.uncut(logits[0].numpy(), shape, spacing))[None]
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    return F.interpolate(on_grid, size=shape, mode=mode, align_corners=False).argmax(1)[0].numpy()


@torch.no_grad()
def _slide(model: nn.Module, inputs: Mapping[str, Tensor], window: tuple[int, ...]) -> Tensor:
    from monai.inferers import sliding_window_inference

    (name,) = inputs
    model.eval()
    return sliding_window_inference(
        inputs[name], window, sw_batch_size=4, overlap=0.5, mode="gaussian",
        predictor=lambda patches: forward(model, {name: patches}),
    )  # fmt: skip
