"""A second training on the patients themselves, with planted patients whose images are noise: what a model reveals."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from reticent.attacks.auditing.canary_findings import Guarantee, one_run_findings
from reticent.attacks.auditing.made_up_cohort import MadeUpReader, made_up_entries, made_up_reader
from reticent.attacks.loaded_run import LoadedRun, fresh_seed
from reticent.attacks.membership.signals import record_signals
from reticent.attacks.options import AttackOptions
from reticent.attacks.scores import Array
from reticent.data import Cohort, Entry
from reticent.data.cohort import Reader
from reticent.records import Finding, RunFolder, Study, read_json, write_json
from reticent.training import Plan, PreparedCohort, released_model, resume_training, train

_NAME = "planted-images"
_LEFT_OUT = (
    "the released model itself: planted patients entered a second one, which was deleted",
    "an adversary who follows the training: the attacks step and one-run have one",
)


class PlantedOptions(AttackOptions):
    canaries: Annotated[int, Field(ge=20, le=5000)] = 500


@dataclass(frozen=True)
class _Mixed:
    """Reads the run's own records, and those of planted patients; locators are (which, locator)."""

    readers: tuple[Reader, MadeUpReader]

    def shape(self, locator: tuple[int, Any]) -> tuple[int, ...]:
        return self.readers[locator[0]].shape(locator[1])

    def spacing(self, locator: tuple[int, Any]) -> tuple[float, ...] | None:
        return self.readers[locator[0]].spacing(locator[1])

    def decode(self, locator: tuple[int, Any]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        return self.readers[locator[0]].decode(locator[1])

    def digest(self, locator: tuple[int, Any]) -> bytes:
        return self.readers[locator[0]].digest(locator[1])

    def stamp(self, locator: tuple[int, Any]) -> str:
        return self.readers[locator[0]].stamp(locator[1])


def attack(run: LoadedRun, options: PlantedOptions) -> Iterator[Finding]:
    """Canaries are in or out of the second training by a fair coin; the adversary has its final weights alone."""
    began, folder = time.perf_counter(), run.work_folder(_NAME)
    seed = _seed(folder, options)
    included = np.random.default_rng((seed, 3)).random(options.canaries) < 0.5
    scores = _scores(run, folder, included, seed)
    shutil.rmtree(folder)
    common: dict[str, Any] = {
        "attack": _NAME,
        "asset": "membership of a patient",
        "adversary": "has the final weights, and planted the patients in question: images of noise, with any label",
        "left_out": _LEFT_OUT,
        "settings": {
            "canaries": len(included), "canaries in": int(included.sum()), "canaries in the released model": False,
        },
        "seed": seed,
        "seconds": time.perf_counter() - began,
    }  # fmt: skip
    guarantee = Guarantee(run.statement.epsilon, run.statement.delta, run.statement.mu)
    yield from one_run_findings(scores[included], scores[~included], guarantee, options.confidence, 2, common)


def _seed(folder: Path, options: PlantedOptions) -> int:
    """The one asked for, else that of an interrupted training with as many canaries, else a fresh one."""
    kept = folder / "canaries.json"
    unfinished = read_json(kept) if kept.is_file() else {}
    if options.seed in (None, unfinished.get("seed")) and unfinished.get("canaries") == options.canaries:
        return int(unfinished["seed"])
    shutil.rmtree(folder / "run", ignore_errors=True)
    seed = fresh_seed() if options.seed is None else options.seed
    write_json(kept, {"seed": seed, "canaries": options.canaries})
    return seed


def _scores(run: LoadedRun, folder: Path, included: NDArray[np.bool_], seed: int) -> Array:
    """How sure the second model is of each planted image's label."""
    cohort = run.cohort
    planted = made_up_entries(run.state, run.task, {f"planted-{k}": 1 for k in range(len(included))}, seed)
    planted = [replace(entry, locator=(1, entry.locator)) for entry in planted]
    members = [
        replace(entry, split="train", locator=(0, entry.locator))
        for entry, split in zip(cohort.entries, run.data.splits, strict=True)
        if split == "train"
    ]
    reader = _Mixed((cohort.reader, made_up_reader(run.state, run.task, cohort.channels, seed)))
    mixed = [*members, *(entry for entry, is_in in zip(planted, included, strict=True) if is_in)]
    model = released_model(_trained(run, folder, replace(cohort, entries=mixed, reader=reader), members, seed))
    study = _study(run, len({entry.subject for entry in members}))
    data = PreparedCohort(replace(cohort, entries=planted, reader=reader), study, b"splits are given")
    data.decode(folder / "cache", lambda stage, done, total: None)
    return record_signals(model, data, run.task, range(len(planted))).phi


def _trained(run: LoadedRun, folder: Path, cohort: Cohort, members: list[Entry], seed: int) -> RunFolder:
    """The second training, charged to its patients by its own mechanism before it begins."""
    patients = list(dict.fromkeys(str(entry.subject) for entry in members))
    study, ledger, path = _study(run, len(patients)), folder / "ledger.sqlite", folder / "run"
    plan = Plan(study, run.state.noise_multiplier, None, len(run.state.classes))
    run.charge(f"{_NAME}-{seed}", plan.mechanism, patients, {"planted": len(cohort.entries) - len(members)})

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "Training":
            run.progress("Training with planted patients", done, total)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is to be said of this training was said of the run
        if not (path / "private" / "run.json").is_file():
            shutil.rmtree(path, ignore_errors=True)
            return train(study, cohort, path, ledger=ledger, plan=plan, progress=progress)
        if (started := RunFolder(path)).state().status == "finished":
            return started
        return resume_training(started, cohort, ledger=ledger, progress=progress, plan=plan)


def _study(run: LoadedRun, patients: int) -> Study:
    """The run's own, with its expected batch and its image size as constants."""
    privacy, cohort = run.study.privacy, run.study.cohort
    batch_size = privacy.batch_size or privacy.sampling_rate * patients / privacy.groups
    study = run.repeated_study(batch_size=batch_size)
    if len(run.state.image_size) == 1:  # of surfaces, whose size their preparation fixes
        return study
    return study.model_copy(update={"cohort": cohort.model_copy(update={"image_size": run.state.image_size})})
