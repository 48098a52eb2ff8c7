"""A private training of made-up patients, some of them canaries, through the same objects as every run.

The adversary sees every noisy sum of gradients; weights are made from these. Nobody's data are read or charged.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from reticent.attacks.auditing.dirac_canaries import PUSH, Coordinates, pushing, spread_over
from reticent.attacks.auditing.made_up_cohort import made_up_cohort
from reticent.attacks.auditing.watch import Watch
from reticent.attacks.loaded_run import LoadedRun
from reticent.data import Cohort
from reticent.records import CohortOptions, RunFolder, Study, read_json, write_json
from reticent.training import Plan, PrivateRun, new_model, private_step, ready_batch

Array = NDArray[np.float64]
_FEWEST, _MOST = 100, 1000
_BLANKS = 2
_STRENGTHS = (3.0, 7.0)
"""Powers of ten of a canary's gradient, far above any clip norm: of those clipped together the strongest wins."""


@dataclass(frozen=True)
class Game:
    """`canaries` are each in by a fair coin, with so many `images`.

    `beside_foils`, each sits beside an adversary's patient who is always in and has the opposite gradient, and behind
    both are two patients without a gradient, as is one in the seat of a canary that is out. Where patients are clipped
    together, the canary then turns its foil over.
    """

    canaries: int
    images: int
    beside_foils: bool
    seed: int


@dataclass(frozen=True)
class Played:
    """What the adversary saw, and the truth."""

    included: NDArray[np.bool_]
    coordinates: Coordinates
    outputs: Array
    noise: Array
    """See `Watch` for both."""
    steps: NDArray[np.int64]
    """Numbers of those that were seen: all, unless a kill lost some."""
    taken: NDArray[np.bool_]
    """Who took part in these steps, (steps, patients)."""
    group_of: NDArray[np.int64]
    """Of each patient, see `CyclicSampler`."""


def affordable(run: LoadedRun, price: float) -> int:
    """Canaries, 100 to 1000, for at most half a training of the run, if each costs as much as `price` records."""
    privacy = run.study.privacy
    records = privacy.steps * privacy.sampling_rate / privacy.groups * run.folder.training_records()
    return int(np.clip(records / 2 / price, _FEWEST, _MOST))


def game_study(run: LoadedRun, game: Game, **privacy: Any) -> Study:
    """The run's own, for the game's patients: same network, clipping and sampling, the game's seed."""
    study = run.repeated_study(seed=game.seed, batch_size=None, **privacy)
    unit, size = study.cohort.unit, run.state.image_size
    return study.model_copy(update={"cohort": CohortOptions(uri="made-up", unit=unit, **_as_images(size))})


def play(run: LoadedRun, game: Game, study: Study, folder: Path, stage: str) -> Played:
    """Train on the made-up patients; an interrupted game in `folder` goes on, a finished one leaves nothing there.

    Raises:
        InputError: the network has too few parameters, or its public first weights are gone.
    """
    record = {"game": vars(game), "study": study.digest()}
    started = folder / "game.json"
    if not started.is_file() or read_json(started) != record:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        write_json(started, record)
    torch.manual_seed(game.seed)
    model = new_model(study, run.task, run.state.inputs, run.state.image_size).train()
    coordinates = spread_over(model, game.canaries, game.seed)
    rng = np.random.default_rng((game.seed, 3))
    included, strengths = rng.random(game.canaries) < 0.5, 10 ** rng.uniform(*_STRENGTHS, game.canaries)
    patients = _patients(game, included, strengths)
    patient_of = np.repeat(np.arange(len(patients)), [patient.images for patient in patients])
    pushes = torch.zeros(len(patients), game.canaries)
    pushes[np.arange(len(patients)), [patient.canary for patient in patients]] = torch.tensor(
        [patient.strength for patient in patients]
    )
    watch = Watch(study, coordinates, len(patients), folder / "seen.npz")
    cohort = made_up_cohort(run.state, run.task, {patient.name: patient.images for patient in patients}, game.seed)
    with _opened(run, study, cohort, folder, stage) as training:
        loss_fn = pushing(training.task.loss_fn(training.state.class_weights), watch.coordinates)
        try:
            for step in training.steps():
                own = patient_of[step.records]
                batch = ready_batch(study, {**step.batch, PUSH: pushes[own]}, torch.contiguous_format)
                gradients = private_step(study, step, model, loss_fn, batch)
                watch.see(step.index, own, model, gradients, training.batch_size)
        finally:
            watch.save()
        groups = {
            int(patient_of[own[0]]): g for g, group in enumerate(training.sampler.groups) for own in group.records_of
        }
    shutil.rmtree(folder)
    seen = np.flatnonzero(~np.isnan(watch.outputs).any(1))
    group_of = np.array([groups[patient] for patient in range(len(patients))])
    return Played(included, watch.coordinates, watch.outputs, watch.noise, seen, watch.taken[seen], group_of)


class _Patient(NamedTuple):
    name: str
    images: int
    canary: int
    strength: float
    """Of the push on the canary's coordinate; 0 for a patient whose gradient is zero."""


def _patients(game: Game, included: NDArray[np.bool_], strengths: Array) -> list[_Patient]:
    """Those who take part, in their order; at least one."""
    patients = []
    for k, (is_in, strength) in enumerate(zip(included, strengths.tolist(), strict=True)):
        if is_in or game.beside_foils:
            patients.append(_Patient(f"canary-{k}", game.images, k, strength * bool(is_in)))
        if game.beside_foils:
            patients.append(_Patient(f"foil-{k}", 1, k, -strength / 2))
            patients += [_Patient(f"blank-{k}-{i}", 1, k, 0.0) for i in range(_BLANKS)]
    return patients or [_Patient("nobody", 1, 0, 0.0)]


@contextmanager
def _opened(run: LoadedRun, study: Study, cohort: Cohort, folder: Path, stage: str) -> Iterator[PrivateRun]:
    def progress(own: str, done: int, total: int) -> None:
        if own == "Training":
            run.progress(stage, done, total)

    path, ledger = folder / "run", folder / "ledger.sqlite"
    plan = Plan(study, study.privacy.noise_multiplier, None, len(run.state.classes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the delta, labels and ledger of people who do not exist
        if (path / "private" / "run.json").is_file():
            opened = PrivateRun.resume(RunFolder(path), cohort, ledger=ledger, plan=plan, progress=progress)
        else:
            shutil.rmtree(path, ignore_errors=True)
            opened = PrivateRun.start(study, cohort, path, ledger=ledger, plan=plan, progress=progress)
    with opened:
        yield opened


def _as_images(size: tuple[int, ...]) -> dict[str, Any]:
    """Options of made-up images of this size; of surfaces none, which come prepared."""
    return {} if len(size) == 1 else {"image_size": size, "normalise": "scale"}
