"""One private step as the built-in training takes it: its batch made ready, clipped by patient, noised."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from reticent.records import Study
from reticent.training.augmentation import augment
from reticent.training.engine import ClippedGrad, LossFn, clipped_grad, strategy
from reticent.training.learner import scheduled_ascent
from reticent.training.memory_format import laid_out
from reticent.training.private_run import Step


def ready_batch(study: Study, batch: dict[str, Any], layout: torch.memory_format) -> dict[str, Any]:
    """A batch in as many views of each record as the study wants, augmented, and laid out as the model wants it.

    Patches are such views already.
    """
    if study.training.views > 1 and study.cohort.patch_size is None:
        batch = tree_map(lambda tensor: tensor.repeat_interleave(study.training.views, 0), batch)
    batch = augment(batch) if study.training.augment == "light" else batch
    return {**batch, "inputs": laid_out(batch["inputs"], layout)}


def bounded_gradients(
    study: Study, index: int, model: nn.Module, loss_fn: LossFn, batch: dict[str, Any], units: Tensor
) -> ClippedGrad:
    """The clipped sum of a batch at a step, by the study's options; private."""
    training = study.training
    with _plans(study):
        return clipped_grad(
            model, loss_fn, batch, max_norm=study.privacy.max_norm, units=units, clipping=training.clipping,
            views=training.views, memory=training.memory_mb * 2**20, ascent=scheduled_ascent(study, index),
        )  # fmt: skip


def private_step(study: Study, step: Step, model: nn.Module, loss_fn: LossFn, batch: dict[str, Any]) -> ClippedGrad:
    """Set every `.grad` to the step's clipped sum with noise; returns the sum without noise, which is private."""
    gradients = bounded_gradients(study, step.index, model, loss_fn, batch, step.units)
    step.privatise(model, gradients)
    return gradients


def _plans(study: Study) -> AbstractContextManager[None]:
    """Measured plans; under a seed those of the fixed rule, because timing would choose the order of sums."""
    return nullcontext() if study.privacy.seed is None else strategy("rule")
