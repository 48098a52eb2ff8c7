"""Many runs of one command: each an ordinary run with its folder and ledger entry, several at a time, resumable."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import torch

from reticent.errors import InputError
from reticent.records import RunFolder, Study, make_study, write_json
from reticent.training.crossval.fold_scores import write_fold_scores
from reticent.training.plan import make_plan
from reticent.training.study_cohort import cohort_of
from reticent.training.train import resume_training, train


@dataclass(frozen=True)
class Job:
    """One run to be done, small enough to be sent to another machine."""

    study: dict[str, Any]
    """As options were given: some defaults would contradict them."""
    path: Path
    ledger: Path | None
    threads: int

    @classmethod
    def of(cls, study: Study, path: Path, ledger: Path | None, jobs: int) -> Job:
        """A job of which so many run at a time."""
        threads = max(1, (os.cpu_count() or 1) // jobs)
        return cls(study.model_dump(mode="json", exclude_unset=True), path, ledger, threads)


def run_jobs(planned: Sequence[Job], jobs: int, backend: str, progress: Callable[[int, int], None]) -> None:
    """Do every run that is not done yet, warning once of what several warn of.

    Raises:
        InputError: runs failed; the others are done.
    """
    with joblib.parallel_config(backend, n_jobs=jobs):
        ended = joblib.Parallel(return_as="generator_unordered")(joblib.delayed(_run)(job) for job in planned)
        errors, said = [], set[str]()
        for done, (error, warned) in enumerate(ended, 1):
            errors += [error] if error else []
            for message in warned - said:
                warnings.warn(message, stacklevel=2)
            said |= warned
            progress(done, len(planned))
    if errors:
        raise InputError(f"{len(errors)} of {len(planned)} runs failed, the first with: {errors[0]}")


def _run(job: Job) -> tuple[str | None, set[str]]:
    """Start, continue or skip one run: the error that ended it, if one did, and what it warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        error = _error(job)
    return error, {str(warning.message) for warning in caught if warning.category is UserWarning}


def _error(job: Job) -> str | None:
    torch.set_num_threads(job.threads)
    study = make_study(job.study)
    try:
        if (job.path / "private" / "run.json").is_file():
            folder = RunFolder.open(job.path, finished=False)
            if folder.state().status != "finished":
                resume_training(folder, cohort_of(study), ledger=job.ledger, progress=_quiet)
            write_fold_scores(folder, cohort_of(study), job.ledger)
            return None
        shutil.rmtree(job.path, ignore_errors=True)  # killed before its first step: what it reserved stays charged
        began = time.perf_counter()
        cohort = cohort_of(study)
        plan = make_plan(study, len(cohort.classes))
        folder = train(study, cohort, job.path, ledger=job.ledger, plan=plan, progress=_quiet)
        write_json(folder.private / "seconds.json", time.perf_counter() - began)
        write_fold_scores(folder, cohort, job.ledger)
    except InputError as error:
        return f"{job.path.name}: {error}"
    return None


def _quiet(stage: str, done: int, total: int) -> None:
    """One bar counts runs; their steps are not shown."""
