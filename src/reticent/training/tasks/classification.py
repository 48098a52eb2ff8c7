"""One class of each record, or several labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from reticent.records import SplitMetrics
from reticent.training.evaluation import Kind, evaluate_classification
from reticent.training.prediction import predict
from reticent.training.tasks.task import ProbabilityTask

if TYPE_CHECKING:
    from reticent.training.prepared_cohort import PreparedCohort

_AT_ONCE = 256


@dataclass(frozen=True)
class Classification(ProbabilityTask):
    """`kind` is "binary", "multi-class" or "multi-label"."""

    def losses(self, outputs: Tensor, targets: Mapping[str, Tensor], weights: Tensor | None) -> Tensor:
        """Cross-entropy (softmax; for multi-label the mean of binary cross-entropies) of logits (n, k).

        Weights multiply a record's (for multi-label: a label's) loss.
        """
        label = targets["label"]
        if self.kind == "multi-label":
            losses = F.binary_cross_entropy_with_logits(outputs, label, reduction="none")
            return (losses if weights is None else losses * weights).mean(1)
        losses = F.cross_entropy(outputs, label, reduction="none")
        return losses if weights is None else losses * weights[label]

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid() if self.kind == "multi-label" else logits.softmax(1)

    def made_up_targets(self, count: int, image_size: tuple[int, ...], generator: Generator) -> dict[str, Tensor]:
        classes = len(self.classes)
        if self.kind == "multi-label":
            return {"label": torch.randint(2, (count, classes), generator=generator).float()}
        return {"label": torch.randint(classes, (count,), generator=generator)}

    def evaluate(self, model: nn.Module, data: PreparedCohort, records: Sequence[int], split: str) -> SplitMetrics:
        entries = [data.cohort.entries[i] for i in records]
        probabilities, targets = list[np.ndarray](), list[np.ndarray]()
        for start in range(0, len(records), _AT_ONCE):
            batch = data.batch(records[start : start + _AT_ONCE])
            probabilities.append(self.probabilities(predict(model, batch["inputs"])).numpy())
            targets.append(batch["targets"]["label"].numpy())
        return evaluate_classification(
            cast(Kind, self.kind),
            np.concatenate(probabilities),
            np.concatenate(targets),
            [str(entry.subject) for entry in entries],
            [entry.attributes for entry in entries],
            self.classes,
            split,
        )
