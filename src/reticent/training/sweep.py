"""Runs of a sweep and what came out of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from reticent.errors import InputError
from reticent.records import RunFolder, Study, Sweep, write_file, write_json
from reticent.training.many_runs import Job, run_jobs
from reticent.training.plan import make_plan
from reticent.training.study_cohort import cohort_of
from reticent.training.train import check_study

_CONFIDENCE = 0.95


def run_sweep(
    sweep: Sweep, out: Path, *, ledger: Path | None, jobs: int, backend: str, progress: Callable[[int, int], None]
) -> pd.DataFrame:
    """Do every run that is not done yet and return one row for each run and split.

    The rows are also in `out/results.parquet`, the runs in `out/runs/`. A sweep that was interrupted goes on where it
    is called again with the same studies.

    Args:
        backend: of joblib: "loky" for processes of this machine, or one that a cluster's library has registered.

    Raises:
        InputError: a study does not fit its cohort (nothing was charged then); `out` holds another sweep; or runs
            failed, of which the others are done.
    """
    for configuration in sweep.configurations:
        cohort = cohort_of(configuration.study)
        check_study(configuration.study, cohort)
        make_plan(configuration.study, len(cohort.classes))
    _claim(out, sweep)
    planned = [
        Job.of(_repeated(c.study, repeat), out / "runs" / f"{n:03d}-{repeat}", ledger, jobs)
        for n, c in enumerate(sweep.configurations)
        for repeat in range(sweep.repeats)
    ]
    run_jobs(planned, jobs, backend, progress)
    results = pd.DataFrame(_rows(sweep, [job.path for job in planned]))
    write_file(out / "results.parquet", results.to_parquet)
    return results


def summary(results: pd.DataFrame, split: str, metric: str) -> pd.DataFrame:
    """Mean of a metric over the repeats of each configuration, and its difference from the first, with 95 % intervals.

    Student's t for the mean and Welch's for the difference: they cover what varies between runs (noise, batches, first
    weights), not which patients were held out.

    Raises:
        InputError: the results have no such split or metric.
    """
    chosen = results[results["split"] == split]
    if metric not in results or chosen[metric].isna().all():
        raise InputError(f"the runs have no {metric!r} on the split {split!r}")
    groups = {str(name): own[metric].to_numpy() for name, own in chosen.groupby("configuration", sort=False)}
    first = next(iter(groups.values()))
    rows = []
    for name, values in groups.items():
        low, high = _interval(stats.ttest_1samp(values, 0.0)) if len(values) > 1 else (np.nan, np.nan)
        row = {"configuration": name, "runs": len(values), "mean": values.mean(), "low": low, "high": high}
        if values is not first:
            row["difference"] = values.mean() - first.mean()
            if min(len(values), len(first)) > 1:
                row["difference low"], row["difference high"] = _interval(
                    stats.ttest_ind(values, first, equal_var=False)
                )
        rows.append(row)
    return pd.DataFrame(rows)


def _interval(test: Any) -> tuple[float, float]:
    found = test.confidence_interval(_CONFIDENCE)
    return float(found.low), float(found.high)


def _claim(out: Path, sweep: Sweep) -> None:
    """Make the folder, or recognise it as this sweep's; more repeats may be asked for later."""
    record = {"configurations": [c.study.model_dump(mode="json") for c in sweep.configurations]}
    written = out / "sweep.json"
    if written.exists():
        if json.loads(written.read_text(encoding="utf-8")) != json.loads(json.dumps(record)):
            raise InputError(f"{out}: holds a sweep of other studies; choose another --out")
        return
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out}: exists already; choose another --out")
    (out / "runs").mkdir(parents=True, exist_ok=True)
    out.chmod(0o700)
    write_json(written, record)


def _repeated(study: Study, repeat: int) -> Study:
    """The study of a repeat: a seed, which is for tests, moves on; without one every run differs anyway."""
    if study.privacy.seed is None:
        return study
    return study.model_copy(update={"privacy": study.privacy.model_copy(update={"seed": study.privacy.seed + repeat})})


def _rows(sweep: Sweep, paths: list[Path]) -> Iterator[dict[str, Any]]:
    named = [c for c in sweep.configurations for _ in range(sweep.repeats)]
    for place, (configuration, path) in enumerate(zip(named, paths, strict=True)):
        folder = RunFolder(path)
        statement, timed = folder.statement(), folder.private / "seconds.json"
        row = {
            "configuration": configuration.name,
            "variant": configuration.variant,
            **{
                name: value if isinstance(value, int | float) else str(value)
                for name, value in configuration.options.items()
            },
            "repeat": place % sweep.repeats,
            "run": statement.run,
            "epsilon": statement.epsilon.upper,
            "delta": statement.delta,
            "mu": statement.mu.upper,
            "seconds": json.loads(timed.read_text()) if timed.exists() else None,
        }
        for split in folder.metrics().splits:
            yield {**row, "split": split.split, **{name: m.value for name, m in split.metrics.items()}}
