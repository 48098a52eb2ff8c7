"""What a task means for a network: its outputs, their loss against the targets, and how well it does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from reticent.data import DECODED_TARGETS, Entry
from reticent.models import Output
from reticent.records import SplitMetrics
from reticent.training.engine import LossFn
from reticent.training.prediction import forward

if TYPE_CHECKING:
    from reticent.training.prepared_cohort import PreparedCohort


@dataclass(frozen=True)
class Task(ABC):
    """`kind` is a cohort's task; `classes` names the outputs. One subclass a kind of task, each in its file."""

    kind: str
    classes: tuple[str, ...]

    output: ClassVar[Output] = "vector"
    """What a network gives for a record."""
    size_multiple: ClassVar[int] = 1
    """Image sides that are no multiple are not taken as they are."""
    largest_side: ClassVar[Mapping[int, int]] = {2: 64, 3: 32}
    """Of an image or a volume where no size is declared."""
    keeps_aspect: ClassVar[bool] = False
    """Whether images are padded to the size, not stretched."""

    draws_targets: ClassVar[bool] = False
    """Whether targets are no patient's: drawn anew by `made_up_targets` for every batch."""

    @property
    def segments(self) -> bool:
        return self.kind == "segmentation"

    def labelled(self, entry: Entry) -> bool:
        """Whether a record of a labelled split has a target."""
        return self.kind in DECODED_TARGETS or entry.label is not None

    def output_shape(self, image_size: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of what a network gives for one record."""
        return (len(self.classes),)

    def outputs(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """What the loss reads of what a network gives."""
        return (forward(model, inputs),)

    def output_shapes(self, image_size: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """Shapes of `outputs` for one record."""
        return (self.output_shape(image_size),)

    def loss_fn(self, class_weights: Sequence[float] | None = None) -> LossFn:
        """`losses` of the records of a batch, shape (n,), times each record's `share` of its subject."""
        weights = None if class_weights is None else torch.tensor(class_weights)

        def loss_fn(model: nn.Module, batch: Any) -> Tensor:
            return self.losses(forward(model, batch["inputs"]), batch["targets"], weights) * batch["share"]

        return loss_fn

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Mapping[str, Tensor], weights: Tensor | None) -> Tensor:
        """The loss of each record, (n,); nothing is normalised over the batch.

        Args:
            outputs: (n, *output_shape).
            targets: by name, records first.
            weights: of the classes, (k,); None: all alike.
        """

    @abstractmethod
    def made_up_targets(self, count: int, image_size: tuple[int, ...], generator: Generator) -> dict[str, Tensor]:
        """Targets of so many records, drawn at random from nobody's."""

    @abstractmethod
    def evaluate(self, model: nn.Module, data: PreparedCohort, records: Sequence[int], split: str) -> SplitMetrics:
        """Metrics on labelled records of a split. Reads private records; no guarantee covers what it returns."""


class ProbabilityTask(Task):
    """A task whose outputs are logits of probabilities."""

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Of the classes or labels, along axis 1."""
