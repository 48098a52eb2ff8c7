"""What a task means for a network: number of outputs, loss of each record, probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reticent.training.engine import LossFn


@dataclass(frozen=True)
class Task:
    """`kind` is "binary", "multi-class", "multi-label" or "segmentation"; `classes` names the outputs."""

    kind: str
    classes: tuple[str, ...]

    @property
    def segments(self) -> bool:
        return self.kind == "segmentation"

    def loss_fn(self, class_weights: Sequence[float] | None = None) -> LossFn:
        """Loss of each record, shape (n,), times the record's `share` of its subject.

        Cross-entropy (softmax; for multi-label the mean of binary cross-entropies); for segmentation voxel-wise
        cross-entropy plus one minus the soft Dice over the foreground labels (Milletari et al. 2016). Nothing is
        normalised over the batch. Weights multiply a record's (for multi-label: a label's) loss.
        """
        weights = None if class_weights is None else torch.tensor(class_weights)

        def loss_fn(model: nn.Module, batch: Any) -> Tensor:
            logits = forward(model, batch["inputs"])
            if self.kind == "segmentation":
                losses = _segmentation_loss(logits, batch["targets"]["mask"], weights)
            elif self.kind == "multi-label":
                labels = F.binary_cross_entropy_with_logits(logits, batch["targets"]["label"], reduction="none")
                losses = (labels if weights is None else labels * weights).mean(1)
            else:
                label = batch["targets"]["label"]
                losses = F.cross_entropy(logits, label, reduction="none")
                losses = losses if weights is None else losses * weights[label]
            return losses * batch["share"]

        return loss_fn

    def probabilities(self, logits: Tensor) -> Tensor:
        """Class probabilities, along axis 1."""
        return logits.sigmoid() if self.kind == "multi-label" else logits.softmax(1)


def _segmentation_loss(logits: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
    cross_entropy = F.cross_entropy(logits, mask, reduction="none", weight=weights).flatten(1).mean(1)
    probabilities = logits.softmax(1)[:, 1:].flatten(2)
    # not F.one_hot, which reads values and so cannot be vectorised over records
    labels = torch.arange(1, logits.shape[1], device=mask.device)[:, None]
    truth = (mask.flatten(1)[:, None] == labels).to(probabilities)
    overlap = 2 * (probabilities * truth).sum(2) + 1
    dice = overlap / (probabilities.sum(2) + truth.sum(2) + 1)
    return cross_entropy + 1 - dice.mean(1)


def forward(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """The model's logits; a single input is passed as a tensor, several as a dictionary."""
    output = model(next(iter(inputs.values())) if len(inputs) == 1 else dict(inputs))
    return output[0] if isinstance(output, tuple) else output
