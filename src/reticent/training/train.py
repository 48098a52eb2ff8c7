"""The training job behind `reticent train`: model, loop, twin, metrics."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from reticent.data import Cohort
from reticent.errors import InputError, first_line
from reticent.launch import RanksLostError
from reticent.models import add_scale_norm, build_model
from reticent.records import Metrics, RunFolder, SplitMetrics, Study
from reticent.training.augmentation import augment
from reticent.training.averaging import MovingAverage
from reticent.training.engine import LossFn, check_independence, clipped_grad, footprint, strategy
from reticent.training.held_out import held_out_metrics
from reticent.training.memory_format import fastest_format, laid_out, lay_out
from reticent.training.noise import SystemSource
from reticent.training.plan import Plan
from reticent.training.prepared_cohort import PreparedCohort, Progress
from reticent.training.private_run import PrivateRun
from reticent.training.ranks import join_ranks
from reticent.training.sharding import add_up_gradients, share_weights
from reticent.training.task import Task, forward
from reticent.training.weights import load_released, load_weights

_CHECKPOINTS = 20
_WARM_UP = 0.05


def train(study: Study, cohort: Cohort, out: Path, *, ledger: Path | None, plan: Plan, progress: Progress) -> RunFolder:
    """Run a study from the ledger reservation to the finished run folder.

    Raises:
        InputError: see `PrivateRun.start`. KeyboardInterrupt leaves a run that `resume_training` continues.
    """
    with join_ranks().together():
        check_study(study, cohort)
    with PrivateRun.start(study, cohort, out, ledger=ledger, plan=plan, progress=progress) as run:
        return _train(run, progress)


def resume_training(
    folder: RunFolder, cohort: Cohort, *, ledger: Path | None, progress: Progress, plan: Plan | None = None
) -> RunFolder:
    """Continue an interrupted run with fresh batches and noise; see `PrivateRun.resume`."""
    with join_ranks().together():
        check_study(folder.study(), cohort)
    with PrivateRun.resume(folder, cohort, ledger=ledger, plan=plan, progress=progress) as run:
        return _train(run, progress)


def new_model(study: Study, task: Task, channels: dict[str, int], image_size: tuple[int, ...]) -> nn.Module:
    """The study's network, with its public first weights if it names any."""
    model = build_model(
        study.model.name,
        spatial_dims=len(image_size),
        in_channels=sum(channels.values()),
        out_channels=len(task.classes),
        image_size=image_size,
        segments=task.segments,
        arguments=study.model.arguments,
    )
    if study.model.scale_norm:
        model = add_scale_norm(model, torch.zeros(2, sum(channels.values()), *image_size))
    if study.model.init_from is not None:
        load_weights(model, study.model.init_from)
    return model


def check_study(study: Study, cohort: Cohort) -> nn.Module:
    """Build the study's network and try it on made-up images of the cohort's shape, before anything is charged.

    Raises:
        InputError: the options do not fit the cohort; or the network cannot be built, does not take the images, gives
            outputs of another shape than the task needs, has nothing to train, or couples patients.
    """
    data = PreparedCohort(cohort, study, b"only shapes are used")
    task = Task(cohort.task, cohort.classes)
    model = new_model(study, task, data.channels, data.image_size).train()
    made_up = _made_up_images(data)
    size = " x ".join(map(str, data.image_size))
    try:
        check_independence(model, made_up, forward)
        with torch.no_grad():
            found = tuple(forward(model, made_up).shape)
    except InputError:
        raise
    except Exception as error:  # whatever a network of others may raise
        raise InputError(
            f"model {study.model.name!r} does not take images of {size} ({first_line(error)}); "
            "choose another --image-size or --model"
        ) from error
    wanted = (2, len(task.classes), *(data.image_size if task.segments else ()))
    if found != wanted:
        raise InputError(
            f"model {study.model.name!r} turns two images of {size} into outputs of shape {found}, but {task.kind} "
            f"with {len(task.classes)} classes needs {wanted}"
        )
    if not any(p.requires_grad for p in model.parameters()):
        raise InputError(f"model {study.model.name!r} has no trainable parameter; set requires_grad on some")
    return model


def _made_up_images(data: PreparedCohort) -> dict[str, Tensor]:
    return {name: torch.randn(2, channels, *data.image_size) for name, channels in data.channels.items()}


def new_optimiser(study: Study, model: nn.Module) -> torch.optim.Optimizer:
    """The study's optimiser; it sees privatised gradients only."""
    training = study.training
    parameters = [p for p in model.parameters() if p.requires_grad]
    if training.optimiser == "sgd":
        return torch.optim.SGD(parameters, training.learning_rate, momentum=0.9)
    kinds = {"adam": torch.optim.Adam, "nadam": torch.optim.NAdam}
    return kinds[training.optimiser](parameters, training.learning_rate)


def scheduled_rate(study: Study, step: int) -> float:
    """Learning rate at a step: a function of the step's number alone."""
    training = study.training
    if training.schedule == "constant":
        return training.learning_rate
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * step / study.privacy.steps))


def scheduled_ascent(study: Study, step: int) -> float:
    """The step of bias-aware minimisation at a step: it grows over the first 5 % of them."""
    return study.training.bias_aware * min(1.0, (step + 1) / max(1.0, _WARM_UP * study.privacy.steps))


def _train(run: PrivateRun, progress: Progress) -> RunFolder:
    study = run.plan.study
    if study.privacy.seed is not None:
        torch.manual_seed(study.privacy.seed + run.ranks.rank)
    model = new_model(study, run.task, run.data.channels, run.data.image_size)
    if run.plan.phase is not None and run.plan.phase.first_weights is not None:
        load_released(model, run.plan.phase.first_weights)
    share_weights(model, run.ranks)
    loss_fn = run.task.loss_fn(run.state.class_weights)
    optimiser, average = new_optimiser(study, model), MovingAverage(model, study.training.ema_decay)
    parts: dict[str, Any] = {"model": model, "optimiser": optimiser, "average": average}
    run.restore(**parts)
    layout = _choose_layout(model.train(), run)
    every, memory = max(1, study.privacy.steps // _CHECKPOINTS), study.training.memory_mb * 2**20
    try:
        for step in run.steps():
            _set_rate(optimiser, scheduled_rate(study, step.index))
            batch = _ready(study, step.batch, layout)
            if study.privacy.non_private:
                _plain_gradient(model, loss_fn, batch, run.batch_size, memory)
                add_up_gradients(model, run.ranks)
            else:
                with _plans(study):
                    gradients = clipped_grad(
                        model, loss_fn, batch, max_norm=run.max_norm, units=step.units, memory=memory,
                        ascent=scheduled_ascent(study, step.index),
                    )  # fmt: skip
                step.privatise(model, gradients)
            optimiser.step()
            average.update(model)
            if (step.index + 1) % every == 0:
                run.save(**parts)
    except (KeyboardInterrupt, RanksLostError):
        run.save(**parts)
        raise
    run.save(**parts)
    if not run.ranks.leads:
        return run.folder
    model.load_state_dict(average.values)
    splits = held_out_metrics(model, run.data, run.task)
    twin = _twin(run, layout, progress) if study.training.twin else ()
    run.finish(model.state_dict(), Metrics(task=run.task.kind, splits=splits, twin=twin))
    return run.folder


def _plans(study: Study) -> AbstractContextManager[None]:
    """Measured plans; under a seed those of the fixed rule, because timing would choose the order of sums."""
    return nullcontext() if study.privacy.seed is None else strategy("rule")


def _choose_layout(model: nn.Module, run: PrivateRun) -> torch.memory_format:
    """Lay the model out in the faster memory format; under a seed as it is, because timing must not change sums."""
    if run.plan.study.privacy.seed is not None:
        return torch.contiguous_format
    return fastest_format(model, _made_up_images(run.data))


def _twin(run: PrivateRun, layout: torch.memory_format, progress: Progress) -> tuple[SplitMetrics, ...]:
    """Metrics of the same training without clipping and noise; its weights are not kept."""
    study = run.plan.study
    model = new_model(study, run.task, run.data.channels, run.data.image_size).train()
    lay_out(model, layout)
    loss_fn = run.task.loss_fn(run.state.class_weights)
    optimiser, average = new_optimiser(study, model), MovingAverage(model, study.training.ema_decay)
    steps, source, memory = study.privacy.steps, SystemSource(), study.training.memory_mb * 2**20
    for index in range(steps):
        _set_rate(optimiser, scheduled_rate(study, index))
        batch = _ready(study, run.data.batch(*run.sampler.draw(index, source)), layout)
        _plain_gradient(model, loss_fn, batch, run.batch_size, memory)
        optimiser.step()
        average.update(model)
        progress("Training the non-private twin", index + 1, steps)
    model.load_state_dict(average.values)
    return held_out_metrics(model, run.data, run.task)


def _ready(study: Study, batch: dict[str, Any], layout: torch.memory_format) -> dict[str, Any]:
    """A batch augmented and laid out as the study and the model want it."""
    batch = augment(batch) if study.training.augment == "light" else batch
    return {**batch, "inputs": laid_out(batch["inputs"], layout)}


def _plain_gradient(model: nn.Module, loss_fn: LossFn, batch: dict[str, Any], batch_size: float, memory: int) -> None:
    """Set every `.grad` to the ordinary gradient of the batch's loss, a chunk of records at a time."""
    model.zero_grad(set_to_none=True)
    records = len(batch["share"])
    if not records:
        return
    first = footprint(model, loss_fn, batch)
    at_once = first.at_once(memory, on_cpu=True)
    for start in range(0, records, at_once):
        rows = slice(start, start + at_once)
        losses = loss_fn(model, _take(batch, rows))
        assert isinstance(losses, Tensor)
        (losses.sum() / batch_size).backward()


def _take(value: Any, rows: slice) -> Any:
    return tree_map(lambda tensor: tensor[rows], value)


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
