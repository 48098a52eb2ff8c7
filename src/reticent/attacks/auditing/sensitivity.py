"""How far one patient moves the clipped sum: measured without noise, patient by patient."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from reticent.attacks.auditing.dirac_canaries import PUSH, pushing, spread_over
from reticent.attacks.loaded_run import LoadedRun
from reticent.data import input_shape
from reticent.records import Study
from reticent.training import bounded_gradients, new_model, ready_batch

_PATIENTS = 16
_COORDINATES = 4
"""That patients share, so that whoever is clipped together pulls the others along."""
_WEAKEST, _FACTOR = 1e5, 3.0
"""Gradients along them, each so many times the next weaker one: what the network makes of an image is lost beside."""


def largest_change(run: LoadedRun, study: Study, images: int, seed: int) -> float:
    """Largest change of the clipped sum, in clip norms, when one of 16 made-up patients is taken out.

    At most 1 if patients are clipped one by one; more if their images are clipped apart, or patients together.
    """
    study = study.model_copy(update={"training": study.training.model_copy(update={"augment": "none"})})
    torch.manual_seed(seed)
    model = new_model(study, run.task, run.state.inputs, run.state.image_size).train()
    coordinates = spread_over(model, _COORDINATES, seed)
    loss_fn = pushing(run.task.loss_fn(run.state.class_weights), coordinates)
    batch = _made_up_batch(run, images, seed)

    def clipped_sum(left_out: int | None) -> dict[str, Tensor]:
        kept = [p for p in range(_PATIENTS) if p != left_out]
        rows = torch.tensor([p * images + i for p in kept for i in range(images)])
        units = torch.arange(len(kept)).repeat_interleave(images)
        part = {
            **{key: {name: x[rows] for name, x in batch[key].items()} for key in ("inputs", "targets")},
            **{key: batch[key][rows] for key in ("share", PUSH)},
        }
        ready = ready_batch(study, part, torch.contiguous_format)
        return bounded_gradients(study, 0, model, loss_fn, ready, units).sum

    whole = clipped_sum(None)
    changes = []
    for patient in range(_PATIENTS):
        without = clipped_sum(patient)
        moved = sum(float((whole[name] - without[name]).abs().square().sum()) for name in whole)
        changes.append(np.sqrt(moved) / study.privacy.max_norm)
    return float(max(changes))


def _made_up_batch(run: LoadedRun, images: int, seed: int) -> dict[str, Any]:
    state, count, rng = run.state, _PATIENTS * images, np.random.default_rng((seed, 4))
    generator = torch.Generator().manual_seed(seed)
    inputs = {
        name: torch.rand((count, *input_shape(name, channels, state.image_size)), generator=generator)
        for name, channels in state.inputs.items()
    }
    targets = run.task.made_up_targets(count, state.image_size, generator)
    rank = rng.permutation(_PATIENTS)
    strengths = _WEAKEST * _FACTOR**rank * (-1.0) ** (rank // _COORDINATES)  # of like ranks, no two point the same way
    push = torch.zeros(_PATIENTS, _COORDINATES)
    push[np.arange(_PATIENTS), rank % _COORDINATES] = torch.from_numpy(strengths).float()
    share = torch.full((count,), 1 / images)
    return {"inputs": inputs, "targets": targets, "share": share, PUSH: push.repeat_interleave(images, 0)}
