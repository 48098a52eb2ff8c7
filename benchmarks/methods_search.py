"""The same search for every method of `methods.py`: three values, the best on validation, which is run anew."""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import torch

from reticent.records import PrivacyStatement, SplitMetrics, make_sweep, read_json, write_json
from reticent.training import run_sweep

REPEATS = 3
Row = dict[str, Any]
Values = Mapping[str, list[float]]
Variant = dict[str, Any]
RATE = "training.learning_rate"


@dataclass(frozen=True)
class Setting:
    """Where the methods of one set are measured."""

    name: str
    cohort: dict[str, Any]
    privacy: dict[str, Any]
    folder: Path
    jobs: int

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.sqlite"


@dataclass(frozen=True)
class Guarantee:
    """What a row says of a run beside its metrics."""

    run: str
    epsilon: float
    delta: float
    mu: float | None

    @classmethod
    def stated(cls, statement: PrivacyStatement) -> Guarantee:
        return cls(statement.run, statement.epsilon.upper, statement.delta, statement.mu.upper)


@dataclass(frozen=True)
class Trial:
    """One run: `path` is its own, and remains if it is interrupted."""

    method: str
    rate: float
    repeat: int
    path: Path


Train = Callable[[Trial], tuple[Guarantee, Sequence[SplitMetrics]]]


def search_and_repeat(
    options: Mapping[str, str], values: Values, run: Callable[[str, Values, int], list[Row]]
) -> dict[str, list[Row]]:
    """Rows of a run for each value of each method, and of REPEATS runs of the best one.

    Args:
        options: the option that each method searches, as the rows name it.
        run: does a stage, "search" or "final": so many repeats of every value.
    """
    searched = run("search", values, 1)
    chosen = {}
    for method, option in options.items():
        own = [row for row in searched if row["variant"] == method and row["split"] == "val"]
        best = max(own, key=lambda row: row["auroc"])[option]
        chosen[method] = [value for value in values[method] if value == best]
    return {"search": searched, "final": run("final", chosen, REPEATS)}


def run_variants(
    setting: Setting,
    variants: Mapping[str, Variant],
    options: Mapping[str, str],
    stage: str,
    values: Values,
    repeats: int,
) -> list[Row]:
    """A stage of variants of our own training, as one sweep."""
    chosen = {key: {**variant, "grid": {options[key]: values[key]}} for key, variant in variants.items()}
    base = {"cohort": setting.cohort, "privacy": setting.privacy}
    sweep = make_sweep({**base, "sweep": {"variants": chosen}}, "methods.py", {}, repeats)
    digest = hashlib.sha256(json.dumps([base, variants, sorted(options.items())], sort_keys=True).encode())
    out = setting.folder / f"{setting.name} {digest.hexdigest()[:8]} {stage}"
    progress = partial(show, out.name)
    frame = run_sweep(sweep, out, ledger=setting.ledger, jobs=setting.jobs, backend="loky", progress=progress)
    return json.loads(frame.to_json(orient="records"))


def run_trials(setting: Setting, train: Mapping[str, Train], stage: str, values: Values, repeats: int) -> list[Row]:
    """A stage of methods that are functions: each trial is kept in its path and not done again."""
    folder = setting.folder / f"{setting.name} others"
    trials = [
        Trial(method, rate, repeat, folder / f"{method}, {stage} {rate:g} {repeat}")
        for method, rates in values.items()
        for rate in rates
        for repeat in range(repeats)
    ]
    threads, rows = max(1, (os.cpu_count() or 1) // setting.jobs), []
    with joblib.parallel_config("loky", n_jobs=setting.jobs):
        ended = joblib.Parallel(return_as="generator")(
            joblib.delayed(_kept)(train[trial.method], trial, threads) for trial in trials
        )
        for done, own in enumerate(ended, 1):
            rows += own
            show(f"{setting.name} {', '.join(values)} {stage}", done, len(trials))
    return rows


def _kept(train: Train, trial: Trial, threads: int) -> list[Row]:
    """The rows of a trial: of its file, or done and written there."""
    written = trial.path.with_name(f"{trial.path.name}.json")
    if not written.exists():
        warnings.simplefilter("ignore")
        torch.set_num_threads(threads)
        trial.path.parent.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        guarantee, splits = train(trial)
        row = {
            "configuration": f"{trial.method}, learning_rate = {json.dumps(trial.rate)}",
            "variant": trial.method,
            RATE: trial.rate,
            "repeat": trial.repeat,
            **vars(guarantee),
            "seconds": time.perf_counter() - began,
        }
        write_json(
            written,
            [{**row, "split": s.split, **{name: m.value for name, m in s.metrics.items()}} for s in splits],
        )
    return read_json(written)


def show(name: str, done: int, total: int) -> None:
    """One line of progress."""
    print(f"{name}: {done} of {total}", flush=True)
