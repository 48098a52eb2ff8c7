"""Numbers of each record, in their physical units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Generator, Tensor, nn

from reticent.records import SplitMetrics
from reticent.training.evaluation import evaluate_regression
from reticent.training.prediction import predict
from reticent.training.tasks.task import Task

if TYPE_CHECKING:
    from reticent.training.prepared_cohort import PreparedCohort

_AT_ONCE = 256
SHRINKAGE = (10.0, 0.2)


@dataclass(frozen=True)
class Regression(Task):
    """`classes` names the targets, and `ranges` are the declared least and largest values of each, in its unit.

    A network gives standardised values u: the target is the middle of its range plus u times half its width. Targets
    beyond a range are taken to its nearest end for training, so that a record's loss is bounded by what is public;
    `evaluate` compares with the targets as they are.
    """

    kind: str = "regression"
    classes: tuple[str, ...] = ()
    ranges: tuple[tuple[float, float], ...] = ()
    shrinkage: tuple[float, float] | None = None
    """Slope a and size c of the shrinkage loss, in the targets' unit; None: squared errors."""

    def losses(self, outputs: Tensor, targets: Mapping[str, Tensor], weights: Tensor | None) -> Tensor:
        """Squared or shrinkage loss, summed over the targets, in units of half a range; weights multiply a target's.

        The shrinkage loss is `shrinkage_loss` of errors in the target's own unit, over the square of half its range.
        """
        _, half = self._scale(outputs)
        errors = outputs - self.standardised(targets["label"])
        losses = errors**2 if self.shrinkage is None else shrinkage_loss(errors * half, *self.shrinkage) / half**2
        return (losses if weights is None else losses * weights).sum(1)

    def standardised(self, values: Tensor) -> Tensor:
        """Targets (n, k) in [-1, 1], those beyond a range at its end."""
        middle, half = self._scale(values)
        return ((values - middle) / half).clamp(-1, 1)

    def physical(self, outputs: Tensor) -> Tensor:
        """What a network says (n, k), in the targets' units."""
        middle, half = self._scale(outputs)
        return middle + outputs * half

    def made_up_targets(self, count: int, image_size: tuple[int, ...], generator: Generator) -> dict[str, Tensor]:
        low, high = torch.tensor(self.ranges).T
        return {"label": low + torch.rand(count, len(self.classes), generator=generator) * (high - low)}

    def evaluate(self, model: nn.Module, data: PreparedCohort, records: Sequence[int], split: str) -> SplitMetrics:
        entries = [data.cohort.entries[i] for i in records]
        found = list[np.ndarray]()
        for start in range(0, len(records), _AT_ONCE):
            inputs = data.batch(records[start : start + _AT_ONCE])["inputs"]
            found.append(self.physical(predict(model, inputs).double()).numpy())
        return evaluate_regression(
            np.concatenate(found),
            data.cohort.labels(entries).astype(np.float64),
            [str(entry.subject) for entry in entries],
            [entry.attributes for entry in entries],
            self.classes,
            split,
        )

    def _scale(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Middle and half width of each range."""
        low, high = torch.tensor(self.ranges, dtype=like.dtype, device=like.device).T
        return (low + high) / 2, (high - low) / 2


def shrinkage_loss(error: Tensor, slope: float = 10.0, size: float = 0.2) -> Tensor:
    r"""Squared errors of which small ones count less: :math:`\ell(e) = e^2 / (1 + e^{a (c - |e|)})`.

    Half of :math:`e^2` at :math:`|e| = c`, nearly all of it far beyond. Depends on the unit of the errors.

    Source: Mueller, Zhou et al. 2023 (their training code); the loss of Lu et al. 2018 without its scale.
    """
    return error**2 * torch.sigmoid(slope * (error.abs() - size))
