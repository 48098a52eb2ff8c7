"""One class of each record, learnt from masks besides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from reticent.errors import InputError
from reticent.models import Output
from reticent.training.engine import LossFn
from reticent.training.prediction import network_inputs
from reticent.training.tasks.classification import Classification
from reticent.training.tasks.segmentation import Segmentation

_MASKS = Segmentation()


@dataclass(frozen=True)
class GuidedClassification(Classification):
    r"""A network gives (logits, logits of background and foreground); the loss of a record is

    .. math:: [\text{labelled}] \, \ell_{\text{class}} + \lambda \, [\text{has a mask}] \, \ell_{\text{mask}}

    with the losses of `Classification` and `Segmentation` (Ziller et al. 2022: segmentation labels for a classifier).
    """

    mask_weight: float = 0.5

    output: ClassVar[Output] = "vector and mask"
    size_multiple: ClassVar[int] = 4

    def outputs(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        found = model(network_inputs(inputs))
        if not isinstance(found, tuple) or len(found) != 2:
            raise InputError(
                f"{type(model).__name__} gives no pair of logits, of labels and masks: --mask-weight needs it"
            )
        return found

    def output_shapes(self, image_size: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        return self.output_shape(image_size), (2, *image_size)

    def loss_fn(self, class_weights: Sequence[float] | None = None) -> LossFn:
        weights = None if class_weights is None else torch.tensor(class_weights)

        def loss_fn(model: nn.Module, batch: Any) -> Tensor:
            logits, drawn = self.outputs(model, batch["inputs"])
            mask = batch["targets"]["mask"]
            has_mask = mask.flatten(1)[:, 0] >= 0
            of_mask = _MASKS.losses(drawn, {"mask": mask.clamp(min=0)}, None) * has_mask
            return (self.losses(logits, batch["targets"], weights) + self.mask_weight * of_mask) * batch["share"]

        return loss_fn

    def losses(self, outputs: Tensor, targets: Mapping[str, Tensor], weights: Tensor | None) -> Tensor:
        """Those of `Classification`, and 0 where the label is -1."""
        label = targets["label"]
        return super().losses(outputs, {"label": label.clamp(min=0)}, weights) * (label >= 0)

    def made_up_targets(self, count: int, image_size: tuple[int, ...], generator: Generator) -> dict[str, Tensor]:
        masks = _MASKS.made_up_targets(count, image_size, generator)
        return super().made_up_targets(count, image_size, generator) | masks
