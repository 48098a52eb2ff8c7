"""A task's loss with targets that may be probabilities, so that an attacker can search for them too."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from reticent.training import Task
from reticent.training.prediction import forward

SoftLoss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""From network, images (n, C, ...) and target probabilities to losses (n,)."""


def soft_loss(task: Task) -> SoftLoss:
    """`Task.loss_fn` for target probabilities: equal to it, gradients included, where they are 0 and 1.

    Targets are (n, classes), for segmentation (n, classes, ...), of which the classes sum to 1 (not of a multi-label
    task).
    """

    def losses(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        logits = forward(model, {"image": images})
        if task.kind == "multi-label":
            return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
        entropy = -(targets * logits.log_softmax(1)).sum(1)
        if not task.segments:
            return entropy
        found, truth = logits.softmax(1)[:, 1:].flatten(2), targets[:, 1:].flatten(2)
        dice = (2 * (found * truth).sum(2) + 1) / (found.sum(2) + truth.sum(2) + 1)
        return entropy.flatten(1).mean(1) + 1 - dice.mean(1)

    return losses


def soft_targets(task: Task, targets: dict[str, Tensor]) -> Tensor:
    """The targets of a batch as probabilities of 0 and 1."""
    classes = len(task.classes)
    if task.segments:
        return F.one_hot(targets["mask"], classes).movedim(-1, 1).float()
    if task.kind == "multi-label":
        return targets["label"].float()
    return F.one_hot(targets["label"], classes).float()


def probabilities(task: Task, logits: Tensor) -> Tensor:
    """What an attacker's free numbers mean as targets."""
    return logits.sigmoid() if task.kind == "multi-label" else logits.softmax(1)
