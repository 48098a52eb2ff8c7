"""Scores of the subjects in a pool by a released model. They are private until noise is on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reticent.data import PADDING, Cohort, DecodedCache
from reticent.errors import InputError
from reticent.records import RunFolder
from reticent.training.active.acquisition import Acquisition
from reticent.training.active.selection import subject_scores
from reticent.training.learner import load_released
from reticent.training.network import new_model
from reticent.training.prediction import forward, predict
from reticent.training.prepared_cohort import preprocessing_of
from reticent.training.tasks import ProbabilityTask, make_task

_CHUNK = 256


def pool_scores(
    run: RunFolder, pool: Cohort, made: Acquisition, cache: Path, progress: Callable[[int, int], None]
) -> tuple[list[str], NDArray[np.float64]]:
    """The subjects of the pool, in the order of their first records, and the score of each.

    A score depends on the run's released weights and the subject's own records alone.

    Raises:
        InputError: a record cannot be read, or the network has no dropout for several passes.
    """
    study, state = run.study(), run.state()
    task = make_task(state)
    if study.cohort.patch_size is not None:
        raise InputError(
            "a run on patches does not score whole images; train with --image-size to select what to label"
        )
    if not isinstance(task, ProbabilityTask):
        raise InputError(f"{run.path}: {task.kind} gives no probabilities to select by; use --acquisition random")
    model = new_model(study, task, state.inputs, state.image_size)
    load_released(study, model, run.weights, task)
    if made.passes > 1:
        require_dropout(model)
    preprocessing = preprocessing_of(study, task, state.image_size, mark_padding=PADDING in state.inputs)
    records = DecodedCache(pool, preprocessing, cache, progress)
    scores: list[Tensor] = []
    for start in range(0, len(records), _CHUNK):
        inputs, _ = records.batch(range(start, min(start + _CHUNK, len(records))))
        tensors = {name: torch.from_numpy(values) for name, values in inputs.items()}
        if made.passes > 1:
            scores.append(made.score(_passes(model, tensors, task, made.passes)))
        else:
            scores.append(made.score(task.probabilities(predict(model, tensors))))
    numbers: dict[str, int] = {}
    subjects = [numbers.setdefault(str(entry.subject), len(numbers)) for entry in pool.entries]
    return list(numbers), subject_scores(torch.cat(scores).numpy(), subjects)


def require_dropout(model: nn.Module) -> None:
    """Refuse a network of which all passes would be the same.

    Raises:
        InputError: no layer drops anything.
    """
    if not _dropouts(model):
        raise InputError(
            "bald compares passes with dropout, and the network has none; name one that has, or use entropy"
        )


def _dropouts(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0]


@torch.no_grad()
def _passes(model: nn.Module, inputs: dict[str, Tensor], task: ProbabilityTask, passes: int) -> Tensor:
    """Class probabilities (passes, n, classes) in evaluation mode, but for dropout."""
    model.eval()
    for layer in _dropouts(model):
        layer.train()
    return torch.stack([task.probabilities(forward(model, inputs)) for _ in range(passes)])
