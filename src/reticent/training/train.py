"""The training job behind `reticent train`: model, loop, twin, metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from reticent.data import Cohort
from reticent.errors import InputError, first_line
from reticent.launch import RanksLostError
from reticent.models import SliceClassifier
from reticent.records import RIDGE, Metrics, RunFolder, SplitMetrics, Study, TrainingOptions
from reticent.training.crops import require_private_crops
from reticent.training.detection_examples import held_out_examples
from reticent.training.engine import LossFn, check_independence, footprint
from reticent.training.feature_release import FeatureRelease, release_features
from reticent.training.held_out import held_out_metrics
from reticent.training.learner import Learner, load_released
from reticent.training.memory_format import differentiable, fastest_format, lay_out
from reticent.training.network import new_model
from reticent.training.noise import SystemSource
from reticent.training.plan import Plan
from reticent.training.prediction import forward
from reticent.training.prepared_cohort import PreparedCohort, Progress
from reticent.training.private_run import PrivateRun
from reticent.training.private_step import private_step, ready_batch
from reticent.training.ranks import join_ranks
from reticent.training.reference_models import reference_metrics
from reticent.training.ridge import fit_exactly, fit_ridge
from reticent.training.sharding import add_up_gradients, share_weights
from reticent.training.slice_explanations import held_out_explanations
from reticent.training.tasks import ProbabilityTask, Regression, make_task

_CHECKPOINTS = 20


def train(study: Study, cohort: Cohort, out: Path, *, ledger: Path | None, plan: Plan, progress: Progress) -> RunFolder:
    """Run a study from the ledger reservation to the finished run folder.

    Raises:
        InputError: see `PrivateRun.start`. KeyboardInterrupt leaves a run that `resume_training` continues.
    """
    with join_ranks().together():
        require_private_crops(study)
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


def check_study(study: Study, cohort: Cohort) -> nn.Module:
    """Build the study's network and try it on made-up images of the cohort's shape, before anything is charged.

    Raises:
        InputError: the options do not fit the cohort; or the network cannot be built, does not take the images, gives
            outputs of another shape than the task needs, has nothing to train, or couples patients.
    """
    _require_fitting_options(study, cohort)
    data = PreparedCohort(cohort, study, b"only shapes are used")
    task = data.task
    model = new_model(study, task, data.channels, data.image_size).train()
    made_up = data.made_up(2)
    if study.training.optimiser == "langevin" and not isinstance(task, ProbabilityTask):
        raise InputError(f"--optimiser langevin averages probabilities, of which {task.kind} has none: choose another")
    size = " x ".join(map(str, data.image_size))
    try:
        if study.privacy.private_activations:
            check_independence(model.get_submodule("features"), made_up, forward)
        else:
            check_independence(model, made_up, task.outputs)
        with torch.no_grad():
            found = [tuple(output.shape) for output in task.outputs(model, made_up)]
    except InputError:
        raise
    except Exception as error:  # whatever a network of others may raise
        raise InputError(
            f"model {study.model.name!r} does not take images of {size} ({first_line(error)}); "
            "choose another --image-size or --model"
        ) from error
    wanted = [(2, *shape) for shape in task.output_shapes(data.image_size)]
    if found != wanted:
        raise InputError(
            f"model {study.model.name!r} turns two images of {size} into outputs of shape {_listed(found)}, but "
            f"{task.kind} with {len(task.classes)} classes needs {_listed(wanted)}"
        )
    if not any(p.requires_grad for p in model.parameters()):
        raise InputError(f"model {study.model.name!r} has no trainable parameter; set requires_grad on some")
    return model


def _listed(shapes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join(map(str, shapes))


def _require_fitting_options(study: Study, cohort: Cohort) -> None:
    if study.cohort.patch_size is not None and cohort.task not in ("segmentation", "restoration"):
        raise InputError(
            "--patch-size is for segmentation: a patch does not tell the class of an image; say --image-size"
        )
    if study.privacy.private_activations:
        _require_linear_head(study, cohort)
    if study.model.name == RIDGE:
        _require_ridge(cohort)
    if study.training.mask_weight is not None:
        _require_guided(study)
    if cohort.task == "restoration" and (len(cohort.channels) > 1 or cohort.ndim == 1):
        raise InputError(f"--pretrain is for one image or volume of a record, and {cohort.uri} has {_inputs(cohort)}")
    for option in ("class_weights", "foreground") if cohort.task == "restoration" else ():
        if getattr(study.training, option) != getattr(TrainingOptions(), option):
            raise InputError(f"--{option.replace('_', '-')} is about labels or masks: leave it out with --pretrain")
    if study.model.transfer_rate != 1 and (study.training.optimiser == "langevin" or study.privacy.private_activations):
        raise InputError("--transfer-rate is not for --optimiser langevin and --private-activations: leave it out")
    if study.training.loss != "squared" and cohort.task != "regression":
        raise InputError(f"--loss {study.training.loss} is for a regression (--target), and the task is {cohort.task}")


def _inputs(cohort: Cohort) -> str:
    return "surfaces" if cohort.ndim == 1 else f"the inputs {', '.join(cohort.channels)}"


def _require_guided(study: Study) -> None:
    for wrong, option in (
        (study.cohort.markers, "--marker"),
        (study.privacy.private_activations, "--private-activations"),
        (study.model.fine_tune != "all", "--fine-tune"),
    ):
        if wrong:
            raise InputError(f"--mask-weight trains an encoder of images for labels and masks: leave out {option}")


def _require_linear_head(study: Study, cohort: Cohort) -> None:
    if study.privacy.label_epsilon and cohort.task in ("multi-label", "regression"):
        raise InputError(
            "--label-epsilon randomises one class of a patient; with several labels, or numbers, leave it out"
        )
    if (output := make_task(cohort).output) != "vector":
        raise InputError(
            f"--private-activations trains a linear head on features of whole images, which gives no {output}"
            f"{'s' if output == 'mask' else ''}"
        )
    if join_ranks().size > 1:
        raise InputError(
            "--private-activations trains a linear head, for which one process suffices; leave out torchrun"
        )


def _require_ridge(cohort: Cohort) -> None:
    if cohort.task != "regression":
        raise InputError(f"--model ridge predicts numbers (--target NAME=LOW,HIGH), and the task is {cohort.task}")
    if join_ranks().size > 1:
        raise InputError("--model ridge takes one step, for which one process suffices; leave out torchrun")


def _train(run: PrivateRun, progress: Progress) -> RunFolder:
    study = run.plan.study
    if study.privacy.seed is not None:
        torch.manual_seed(study.privacy.seed + run.ranks.rank)
    model = new_model(study, run.task, run.data.channels, run.data.image_size)
    if study.model.name == RIDGE:
        return _train_ridge(run, model)
    if run.plan.phase is not None and run.plan.phase.first_weights is not None:
        load_released(study, model, run.plan.phase.first_weights, run.task)
    share_weights(model, run.ranks)
    learner = Learner(study, model, run.expected_subjects)
    run.restore(**learner.parts)
    layout = _choose_layout(model.train(), run)
    release = release_features(run, model, progress) if study.privacy.private_activations else None
    _learn(run, learner, layout, release)
    if not run.ranks.leads:
        return run.folder
    splits = held_out_metrics(learner.predicting(run.task), run.data)
    predicting = learner.predicting(run.task)
    if isinstance(predicting, SliceClassifier):
        run.folder.write_explanations(held_out_explanations(predicting, run.data))
    if run.task.output == "boxes":
        run.folder.write_examples(held_out_examples(predicting, run.data))
    twin = _twin(run, layout, progress) if study.training.twin else ()
    references, note = reference_metrics(run.data)
    run.finish(
        learner.released,
        Metrics(task=run.task.kind, splits=splits, twin=twin, references=references, reference_note=note),
    )
    return run.folder


def _train_ridge(run: PrivateRun, model: nn.Module) -> RunFolder:
    """Solve for the model in the run's one step; the twin from the same records without clipping and noise."""
    fit_ridge(run, model)
    splits = held_out_metrics(model, run.data)
    twin: tuple[SplitMetrics, ...] = ()
    if run.plan.study.training.twin:
        assert isinstance(run.task, Regression)
        other = new_model(run.plan.study, run.task, run.data.channels, run.data.image_size)
        fit_exactly(other, run.task, run.data.batch(*run.sampler.draw(0, SystemSource())), run.batch_size)
        twin = held_out_metrics(other, run.data)
    run.finish(model.state_dict(), Metrics(task=run.task.kind, splits=splits, twin=twin))
    return run.folder


def _learn(run: PrivateRun, learner: Learner, layout: torch.memory_format, release: FeatureRelease | None) -> None:
    """The steps that are left, with checkpoints, the last one behind the last step or an interruption.

    On released features the head alone learns, without clipping and noise of its own.
    """
    study, model = run.plan.study, learner.model
    training = study.training
    loss_fn = run.task.loss_fn(run.state.class_weights)
    every, memory = max(1, study.privacy.steps // _CHECKPOINTS), training.memory_mb * 2**20
    try:
        for step in run.steps():
            batch = ready_batch(study, step.batch, layout) if release is None else release.batch(step.records)
            if release is not None:
                _plain_gradient(model.get_submodule("head"), loss_fn, batch, run.batch_size, memory)
            elif study.privacy.non_private:
                _plain_gradient(model, loss_fn, batch, run.batch_size * training.views, memory)
                add_up_gradients(model, run.ranks)
            else:
                private_step(study, step, model, loss_fn, batch)
            learner.step(step.index)
            if (step.index + 1) % every == 0:
                run.save(**learner.parts)
    except (KeyboardInterrupt, RanksLostError):
        run.save(**learner.parts)
        raise
    run.save(**learner.parts)


def _choose_layout(model: nn.Module, run: PrivateRun) -> torch.memory_format:
    """Lay the model out in the faster memory format; under a seed as it is, because timing must not change sums."""
    if run.plan.study.privacy.seed is not None:
        return torch.contiguous_format
    return fastest_format(model, run.data.made_up(2))


def _twin(run: PrivateRun, layout: torch.memory_format, progress: Progress) -> tuple[SplitMetrics, ...]:
    """Metrics of the same training without clipping and noise; its weights are not kept."""
    study = run.plan.study
    model = new_model(study, run.task, run.data.channels, run.data.image_size).train()
    lay_out(model, layout)
    loss_fn, learner = run.task.loss_fn(run.state.class_weights), Learner(study, model, run.expected_subjects)
    steps, source, memory = study.privacy.steps, SystemSource(), study.training.memory_mb * 2**20
    for index in range(steps):
        batch = ready_batch(study, run.data.training_batch(*run.sampler.draw(index, source)), layout)
        _plain_gradient(model, loss_fn, batch, run.batch_size * study.training.views, memory)
        learner.step(index)
        progress("Training the non-private twin", index + 1, steps)
    return held_out_metrics(learner.predicting(run.task), run.data)


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
        part = _take(batch, rows)
        losses = loss_fn(model, {**part, "inputs": differentiable(part["inputs"])})
        assert isinstance(losses, Tensor)
        (losses.sum() / batch_size).backward()


def _take(value: Any, rows: slice) -> Any:
    return tree_map(lambda tensor: tensor[rows], value)
