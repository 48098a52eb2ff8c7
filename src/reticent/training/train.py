"""The training job behind `reticent train`: model, loop, twin, metrics."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reticent.accounting import Unbounded
from reticent.data import Cohort
from reticent.models import build_model
from reticent.records import Metrics, RunFolder, SplitMetrics, Study
from reticent.training.averaging import MovingAverage
from reticent.training.clipped_grad import LossFn, clipped_grad
from reticent.training.held_out import held_out_metrics
from reticent.training.model_check import check_model
from reticent.training.noise import SystemSource
from reticent.training.plan import Plan
from reticent.training.poisson_sampling import SubjectSampler
from reticent.training.prepared_cohort import Progress
from reticent.training.private_run import PrivateRun
from reticent.training.task import Task
from reticent.training.weights import load_weights

_CHECKPOINTS = 20
_PLAIN_CHUNK = 64


def train(study: Study, cohort: Cohort, out: Path, *, ledger: Path | None, plan: Plan, progress: Progress) -> RunFolder:
    """Run a study from the ledger reservation to the finished run folder.

    Raises:
        InputError: see `PrivateRun.start`. KeyboardInterrupt leaves a run that `resume_training` continues.
    """
    with PrivateRun.start(study, cohort, out, ledger=ledger, plan=plan, progress=progress) as run:
        return _train(run, progress)


def resume_training(folder: RunFolder, cohort: Cohort, *, ledger: Path | None, progress: Progress) -> RunFolder:
    """Continue an interrupted run with fresh batches and noise."""
    with PrivateRun.resume(folder, cohort, ledger=ledger, progress=progress) as run:
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
    if study.model.init_from is not None:
        load_weights(model, study.model.init_from)
    return model


def check_trainable(model: nn.Module, channels: dict[str, int], image_size: tuple[int, ...]) -> None:
    """`check_model` on made-up inputs of the cohort's shape."""
    model.train()
    check_model(model, {name: torch.randn(2, c, *image_size) for name, c in channels.items()})


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


def _train(run: PrivateRun, progress: Progress) -> RunFolder:
    study = run.plan.study
    if study.privacy.seed is not None:
        torch.manual_seed(study.privacy.seed)
    model = new_model(study, run.task, run.data.channels, run.data.image_size)
    loss_fn = run.task.loss_fn(run.state.class_weights)
    optimiser, average = new_optimiser(study, model), MovingAverage(model, study.training.ema_decay)
    parts: dict[str, Any] = {"model": model, "optimiser": optimiser, "average": average}
    run.restore(**parts)
    model.train()
    every = max(1, study.privacy.steps // _CHECKPOINTS)
    try:
        for step in run.steps():
            _set_rate(optimiser, scheduled_rate(study, step.index))
            if study.privacy.non_private:
                _plain_gradient(model, loss_fn, step.batch, run.batch_size)
            else:
                gradients = clipped_grad(
                    model,
                    loss_fn,
                    step.batch,
                    max_norm=run.max_norm,
                    units=step.units,
                    memory=study.training.memory_mb * 2**20,
                )
                step.privatise(model, gradients)
            optimiser.step()
            average.update(model)
            if (step.index + 1) % every == 0:
                run.save(**parts)
    except KeyboardInterrupt:
        run.save(**parts)
        raise
    run.save(**parts)
    model.load_state_dict(average.values)
    splits = held_out_metrics(model, run.data, run.task)
    twin = _twin(run, progress) if study.training.twin else ()
    run.finish(model.state_dict(), Metrics(task=run.task.kind, splits=splits, twin=twin))
    return run.folder


def _twin(run: PrivateRun, progress: Progress) -> tuple[SplitMetrics, ...]:
    """Metrics of the same training without clipping and noise; its weights are not kept."""
    study = run.plan.study
    subjects = run.data.subjects("train")
    run.charge_twin(Unbounded("non-private twin of a private run; only its metrics are kept", unit=study.cohort.unit))
    model = new_model(study, run.task, run.data.channels, run.data.image_size).train()
    loss_fn = run.task.loss_fn(run.state.class_weights)
    optimiser, average = new_optimiser(study, model), MovingAverage(model, study.training.ema_decay)
    privacy, source = study.privacy, SystemSource()
    sampler = SubjectSampler(list(subjects.values()), privacy.sampling_rate, privacy.max_records_per_subject)
    for index in range(privacy.steps):
        _set_rate(optimiser, scheduled_rate(study, index))
        _plain_gradient(model, loss_fn, run.data.batch(*sampler.draw(source)), run.batch_size)
        optimiser.step()
        average.update(model)
        progress("Training the non-private twin", index + 1, privacy.steps)
    model.load_state_dict(average.values)
    return held_out_metrics(model, run.data, run.task)


def _plain_gradient(model: nn.Module, loss_fn: LossFn, batch: dict[str, Any], batch_size: float) -> None:
    """Set every `.grad` to the ordinary gradient of the batch's loss, a chunk of records at a time."""
    model.zero_grad(set_to_none=True)
    for start in range(0, len(batch["share"]), _PLAIN_CHUNK):
        rows = slice(start, start + _PLAIN_CHUNK)
        losses = loss_fn(model, {key: _take(value, rows) for key, value in batch.items()})
        assert isinstance(losses, Tensor)
        (losses.sum() / batch_size).backward()


def _take(value: Any, rows: slice) -> Any:
    return {name: tensor[rows] for name, tensor in value.items()} if isinstance(value, dict) else value[rows]


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
