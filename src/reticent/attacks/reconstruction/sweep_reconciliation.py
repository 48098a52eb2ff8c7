"""The runs of a sweep over noise or epsilon, reconciled."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy import stats

from reticent.attacks.loaded_run import LoadedRun
from reticent.attacks.reconstruction.on_runs.material import ReconstructionOptions, gather
from reticent.attacks.reconstruction.reconciliation import Protocol, reconcile
from reticent.errors import InputError
from reticent.records import Interval, Performance, Reconciliation, RunFolder, Study, headline
from reticent.training import Progress

CONFIDENCE = 0.95


def reconcile_sweep(
    sweep: Path,
    options: ReconstructionOptions,
    *,
    metric: str | None = None,
    split: str = "test",
    batch: int = 16,
    neurons: int = 256,
    threshold: float = 1e-3,
    more: tuple[float, ...] = (),
    ledger: Path | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Reconciliation:
    """Reconcile a sweep's finished runs, which may differ in their noise or target alone.

    Args:
        metric: of the performance; None: the task's own (`HEADLINES`).
        more: noise multipliers beside those of the runs, attacked but without a performance.

    Raises:
        InputError: the folder holds no sweep of finished runs, or runs that differ in more than their noise.
    """
    runs = _runs(sweep)
    studies = [run.study() for run in runs]
    if len({_without_noise(study) for study in studies}) > 1:
        raise InputError(f"{sweep}: its runs differ in more than their privacy target; sweep over that alone")
    first, privacy = runs[0], studies[0].privacy
    if privacy.private_activations or privacy.groups > 1:
        raise InputError(f"{sweep}: reconciled are runs of DP-SGD with independent noise, and those without privacy")
    name = metric or _headline(first)
    values: dict[float | None, list[float]] = defaultdict(list)
    for run in runs:
        sigma = run.state().noise_multiplier
        values[None if sigma is None else float(f"{sigma:.6g}")].append(_value(run, split, name))
    with LoadedRun(first, ledger, progress) as loaded:
        protocol = Protocol(
            subjects=len(loaded.data.subjects("train")),
            sampling_rate=privacy.sampling_rate,
            steps=privacy.steps,
            max_norm=privacy.max_norm,
            delta=max(study.privacy.stated_delta for study in studies),
            unit=studies[0].cohort.unit,
            batch=batch,
            neurons=neurons,
            threshold=threshold,
            confidence=options.confidence,
        )
        return reconcile(
            protocol, gather(loaded, options), loaded.label_task, {sd: _performance(v) for sd, v in values.items()},
            cohort=first.state().cohort, metric=name, split=split, more=more, progress=progress,
        )  # fmt: skip


def _runs(sweep: Path) -> list[RunFolder]:
    folders = sorted(path for path in (sweep / "runs").glob("*") if (path / "private" / "run.json").is_file())
    if not folders:
        raise InputError(f"{sweep}: no runs of a sweep (`reticent sweep … --over privacy.noise_multiplier=…`)")
    runs = [RunFolder(path) for path in folders]
    if unfinished := [run.path.name for run in runs if run.state().status != "finished"]:
        raise InputError(f"{sweep}: {unfinished[0]} is not finished; call `reticent sweep` again")
    return runs


def _headline(run: RunFolder) -> str:
    there = [name for split in run.metrics().splits for name in split.metrics]
    return headline(there)


def _without_noise(study: Study) -> str:
    """The study without its privacy target and seed."""
    target = ("epsilon", "delta", "mu", "advantage", "noise_multiplier", "non_private", "seed", "budget")
    data = study.model_dump(mode="json")
    for option in target:
        data["privacy"].pop(option)
    return str(data)


def _value(run: RunFolder, split: str, metric: str) -> float:
    for found in run.metrics().splits:
        if found.split == split and metric in found.metrics:
            value = found.metrics[metric].value
            if value is not None:
                return value
    raise InputError(f"{run.path}: has no {metric!r} on the split {split!r}; name another with --metric or --split")


def _performance(values: list[float]) -> Performance:
    """Mean over the repeats, with Student's interval: what varies between runs, not which patients were held out."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Performance(value=mean, interval=None, runs=1)
    found = stats.ttest_1samp(values, 0.0).confidence_interval(CONFIDENCE)
    interval = Interval(lower=float(found.low), upper=float(found.high), confidence=CONFIDENCE)
    return Performance(value=mean, interval=interval, runs=len(values))
