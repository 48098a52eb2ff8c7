"""Reference models: the run's own training, repeated on halves of the patients.

They are cached by what they say about every record; the models are not kept. Their training is charged as unbounded.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from numpy.typing import NDArray

from reticent.accounting import Unbounded
from reticent.attacks.loaded_run import LoadedRun, fresh_seed
from reticent.attacks.membership.signals import Signals, record_signals
from reticent.attacks.options import AttackOptions
from reticent.errors import InputError
from reticent.governance import Ledger
from reticent.records import RunFolder, make_study, read_json, write_file, write_json
from reticent.training import (
    Plan,
    PreparedCohort,
    cohort_of,
    make_task,
    released_model,
    resume_training,
    train,
)


@dataclass(frozen=True)
class References:
    """What `models` trained on halves say about the pool's records."""

    signals: Signals
    """(models, records)."""
    inside: NDArray[np.bool_]
    """Which model was trained on which record, (models, records)."""
    seed: int


@dataclass(frozen=True)
class _Job:
    """One reference model to be made, small enough to be sent to another machine."""

    study: dict[str, Any]
    plan: tuple[float | None, int]
    """Noise multiplier and number of classes."""
    inside: NDArray[np.bool_]
    """For each entry of the cohort."""
    records: list[int]
    """That signals are wanted of."""
    folder: Path
    number: int
    threads: int

    @property
    def made(self) -> Path:
        """What is kept of the model."""
        return self.folder / f"{self.number:03d}.npz"


def reference_models(run: LoadedRun, records: list[int], count: int, options: AttackOptions) -> References:
    """Signals of `count` models, each trained on half of the patients and its successor on the other half.

    The patients are those of `records` and whoever else the run was trained on.

    What exists of the same seed is used; more are added to it, and interrupted ones go on.

    Raises:
        InputError: a budget of these patients admits no training without privacy, or a training failed.
    """
    folder = run.work_folder("references")
    seed = _seed(folder / "seed.json", options.seed)
    folder = folder / f"seed-{seed}"
    folder.mkdir(mode=0o700, exist_ok=True)
    subjects = [str(run.data.cohort.entries[i].subject) for i in records] + list(run.data.subjects("train"))
    halves = _halves(subjects, count, seed)
    names = np.array([str(entry.subject) for entry in run.data.cohort.entries])
    run.charge(
        f"references-{seed}",
        Unbounded("reference models of an audit; they are not kept and never released", unit=run.study.cohort.unit),
        list(dict.fromkeys(subjects)),
        {"models": count},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a ledger of this folder alone, for what the site's has charged already
        Ledger.open(folder / "ledger.sqlite").close()
    threads = max(1, torch.get_num_threads() // options.jobs)
    studies = [run.repeated_study(seed=_own_seed(seed, k)).model_dump(mode="json") for k in range(count)]
    plan = (run.state.noise_multiplier, len(run.state.classes))
    jobs = [
        _Job(study, plan, np.isin(names, half), records, folder, k, threads)
        for k, (study, half) in enumerate(zip(studies, halves, strict=True))
    ]
    left = [job for job in jobs if not job.made.is_file()]
    with joblib.parallel_config(options.backend, n_jobs=options.jobs):
        ended = joblib.Parallel(return_as="generator_unordered")(joblib.delayed(_make)(job, run.cache) for job in left)
        _wait(run, ended, count - len(left), count)
    made = [np.load(job.made) for job in jobs]
    found = Signals(*(np.stack([one[name] for one in made]) for name in Signals._fields))
    return References(found, np.stack([job.inside[records] for job in jobs]), seed)


def _wait(run: LoadedRun, ended: Iterable[str | None], done: int, count: int) -> None:
    errors = []
    for error in ended:
        errors += [error] if error else []
        done += 1
        run.progress("Reference models", done, count)
    if errors:
        raise InputError(f"{len(errors)} of {count} reference models failed, the first with: {errors[0]}")


def _seed(kept: Path, asked: int | None) -> int:
    """The one asked for; else that of the audit before, whose models can be used again; else a fresh one."""
    if asked is None and kept.is_file():
        return int(read_json(kept))
    seed = fresh_seed() if asked is None else asked
    write_json(kept, seed)
    return seed


def _halves(subjects: list[str], count: int, seed: int) -> list[NDArray[np.str_]]:
    everybody = np.array(sorted(set(subjects)))
    halves: list[NDArray[np.str_]] = []
    for pair in range((count + 1) // 2):
        mixed = np.random.default_rng((seed, 5, pair)).permutation(everybody)
        halves += [mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :]]
    return halves[:count]


def _own_seed(seed: int, number: int) -> int:
    """Of a model: nothing that is trained with a seed can be released."""
    return int(np.random.SeedSequence((seed, 6, number)).generate_state(1)[0])


def _make(job: _Job, cache: Path) -> str | None:
    """Train or continue one model and keep what it says of the records; the error that ended it, if one did."""
    warnings.simplefilter("ignore")  # each would be repeated by every model
    torch.set_num_threads(job.threads)
    study = make_study(job.study)
    path, ledger = job.folder / f"{job.number:03d}", job.folder / "ledger.sqlite"
    try:
        cohort = cohort_of(study)
        entries = [
            replace(entry, split="train" if is_in else "unlabelled")
            for entry, is_in in zip(cohort.entries, job.inside, strict=True)
        ]
        half, plan = replace(cohort, entries=entries), Plan(study, job.plan[0], None, job.plan[1])
        if not (path / "private" / "run.json").is_file():
            shutil.rmtree(path, ignore_errors=True)
            folder = train(study, half, path, ledger=ledger, plan=plan, progress=_quiet)
        elif (folder := RunFolder(path)).state().status != "finished":
            folder = resume_training(folder, half, ledger=ledger, progress=_quiet, plan=plan)
        state = folder.state()
        data = PreparedCohort(half, study, b"splits are given")
        data.decode(cache, _quiet, build=False)
        found = record_signals(released_model(folder), data, make_task(state, study.training), job.records)
    except InputError as error:
        return f"model {job.number}: {error}"
    write_file(job.made, lambda aside: _save(aside, found))
    shutil.rmtree(path)
    return None


def _save(path: Path, found: Signals) -> None:
    with path.open("wb") as file:
        np.savez(file, **found._asdict())


def _quiet(stage: str, done: int, total: int) -> None:
    """One bar counts models; their steps are not shown."""
