"""Hidden parts of images, from what is left of them: a network learns without any label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from reticent.models import Output
from reticent.records import SplitMetrics
from reticent.training.engine import LossFn
from reticent.training.evaluation import evaluate_restoration
from reticent.training.prediction import forward, predict
from reticent.training.tasks.task import Task

if TYPE_CHECKING:
    from reticent.training.prepared_cohort import PreparedCohort

_AT_ONCE = 256
_BLOCKS = 8
_HIDDEN = 0.5
_SEED = 0


@dataclass(frozen=True)
class Restoration(Task):
    r"""A network gives the intensity of every pixel (the mean of channels), from an image x whose blocks H are 0:

    .. math:: \ell = \frac{1}{|H|} \sum_{i \in H} \Big( \hat x_i - \frac1C \sum_c x_{ci} \Big)^2

    Each side is cut into 8 and half of the blocks are hidden, drawn anew for every image and step and the same for its
    views (context encoders, Pathak et al. 2016; masked auto-encoders, He et al. 2022). Hidden and restored is what
    comes out of pre-processing and augmentation, padding too.
    """

    kind: str = "restoration"
    classes: tuple[str, ...] = ("intensity",)

    output: ClassVar[Output] = "mask"
    size_multiple: ClassVar[int] = 4
    draws_targets: ClassVar[bool] = True

    def output_shape(self, image_size: tuple[int, ...]) -> tuple[int, ...]:
        return 1, *image_size

    def loss_fn(self, class_weights: Sequence[float] | None = None) -> LossFn:
        def loss_fn(model: nn.Module, batch: Any) -> Tensor:
            ((name, image),) = batch["inputs"].items()
            hidden = batch["targets"]["hidden"]
            restored = forward(model, {name: _seen(image, hidden)})
            return self.losses(restored, {"hidden": hidden, "image": image}, None) * batch["share"]

        return loss_fn

    def losses(self, outputs: Tensor, targets: Mapping[str, Tensor], weights: Tensor | None) -> Tensor:
        hidden = targets["hidden"].to(outputs)
        errors = (outputs[:, 0] - targets["image"].mean(1)) ** 2
        return (errors * hidden).flatten(1).sum(1) / hidden.flatten(1).sum(1).clamp(min=1)

    def made_up_targets(self, count: int, image_size: tuple[int, ...], generator: Generator) -> dict[str, Tensor]:
        blocks = torch.rand(count, 1, *[_BLOCKS] * len(image_size), generator=generator) < _HIDDEN
        return {"hidden": F.interpolate(blocks.float(), size=image_size, mode="nearest")[:, 0] > 0}

    def evaluate(self, model: nn.Module, data: PreparedCohort, records: Sequence[int], split: str) -> SplitMetrics:
        """Of each record one draw of hidden blocks, always the same."""
        generator, squares, variances = torch.Generator().manual_seed(_SEED), list[np.ndarray](), list[np.ndarray]()
        for start in range(0, len(records), _AT_ONCE):
            ((name, image),) = data.batch(records[start : start + _AT_ONCE])["inputs"].items()
            hidden = self.made_up_targets(len(image), data.image_size, generator)["hidden"]
            restored = predict(model, {name: _seen(image, hidden)})
            targets, middle = {"hidden": hidden, "image": image}, _mean_of_hidden(image, hidden)
            squares.append(self.losses(restored, targets, None).double().numpy())
            variances.append(self.losses(middle, targets, None).double().numpy())
        entries = [data.cohort.entries[i] for i in records]
        return evaluate_restoration(
            np.concatenate(squares),
            np.concatenate(variances),
            [str(entry.subject) for entry in entries],
            [entry.attributes for entry in entries],
            split,
        )


def _seen(image: Tensor, hidden: Tensor) -> Tensor:
    return image.masked_fill(hidden[:, None], 0)


def _mean_of_hidden(image: Tensor, hidden: Tensor) -> Tensor:
    """What is best said of the hidden pixels with one number for each image, (n, 1, ...)."""
    weights = hidden.to(image).flatten(1)
    means = (image.mean(1).flatten(1) * weights).sum(1) / weights.sum(1).clamp(min=1)
    return means.reshape(-1, 1, *[1] * (image.ndim - 2)).expand(-1, 1, *image.shape[2:])
