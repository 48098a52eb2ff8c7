"""One step of the run's training with everybody taking part: the tightest test of clipping and noise."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from reticent.accounting import EmpiricalLowerBound, Gaussian
from reticent.attacks.auditing.canary_game import Game, Played, affordable, game_study, play
from reticent.attacks.auditing.independent_bounds import errors_at, mu_at, mu_p_value
from reticent.attacks.auditing.sensitivity import largest_change
from reticent.attacks.loaded_run import LoadedRun
from reticent.attacks.options import AttackOptions
from reticent.records import Finding, Interval, Number

NOISE_MULTIPLIER = 1.0
"""Of the step, whatever the run's: what goes wrong is off by a factor, and at this size factors are told apart best."""
_THRESHOLD = -0.5
"""Half-way between a foil alone (-1) and a foil with its canary (0)."""
_SMALLEST_GROUP = 60
_IMAGES = 3
_PRICE = 2 * (_IMAGES + 3)
"""Records of the run's training that a canary costs: its own, its foil's and two others', at twice the time."""
_ROUNDING = 1e-3


class StepOptions(AttackOptions):
    canaries: Annotated[int, Field(ge=20, le=5000)] | None = None
    """None: 1000, or fewer where the run's own training was shorter."""


def attack(run: LoadedRun, options: StepOptions) -> Iterator[Finding]:
    """Canaries with several images each, beside foils, in one step through the run's own clipping and noise."""
    began, seed = time.perf_counter(), run.seed(options)
    images = min(_IMAGES, run.study.privacy.max_records_per_subject) if run.study.cohort.unit == "subject" else 1
    game = Game(options.canaries or affordable(run, _PRICE), images, True, seed)
    whole = {"steps": 1, "sampling_rate": 1.0, "noise": "independent", "bands": None}
    study = game_study(run, game, noise_multiplier=NOISE_MULTIPLIER, **whole)
    played = play(run, game, study, run.work_folder("step") / "game", "One step with canaries")
    settings = {"images of a canary": images, "canaries in the released model": False}
    common: dict[str, Any] = {"attack": "step", "seed": seed, "kind": "empirical lower bound"}
    bound, p_value = step_bound(played, options.confidence)
    certified = Gaussian(NOISE_MULTIPLIER).profile().mu()
    yield Finding(
        **common,
        asset="membership of a patient in one step",
        adversary="sees the noisy sum of one step, knows everyone else's images and planted the patient in question",
        metric="mu",
        value=bound.value,
        interval=Interval(lower=bound.value, upper=None, confidence=bound.confidence),
        baseline=0.0,
        guarantee=Number.of(certified),
        p_value=min(1.0, 2 * p_value),
        reading=f"One training step, attacked as hard as can be, gave away mu {bound}; accounted for is "
        f"{certified.upper:g}.",
        left_out=(
            "the run's own noise multiplier, sampling and number of steps: the attack one-run has them",
            "the patients' own images: canaries are made-up, no patient was used and none is charged",
            "the random source of a real run: the game's is seeded, to be repeatable",
        ),
        settings={"canaries": game.canaries, "noise multiplier": NOISE_MULTIPLIER, **settings},
        seconds=time.perf_counter() - began,
    )
    began = time.perf_counter()
    change = largest_change(run, study, images, seed)
    yield Finding(
        **common,
        asset="clipping",
        adversary="none; whether the software does what is accounted for is tested",
        metric="change of a step's sum by one patient, in clip norms",
        value=change,
        guarantee=Number(lower=0.0, upper=1.0, kind="upper bound"),
        p_value=float(change <= 1 + _ROUNDING),
        reading=f"Taking one patient out moved a step's sum by at most {change:.4g} clip norms; accounted for is 1.",
        left_out=("patients of other batches than the made-up one that was tried",),
        settings=settings,
        seconds=time.perf_counter() - began,
    )


def step_bound(played: Played, confidence: float) -> tuple[EmpiricalLowerBound, float]:
    """Lower bound on mu of one step from independent canaries; p-value of mu = 1 / `NOISE_MULTIPLIER`.

    All canaries together, and those of each tensor alone, as many as are enough, lest noise be missing in one.
    """
    scores, included = played.outputs[0], played.included
    tensor_of = played.coordinates.tensor_of
    sizes = np.bincount(tensor_of)
    groups = [np.ones_like(included), *(tensor_of == k for k in np.flatnonzero(sizes >= _SMALLEST_GROUP))]
    errors = [errors_at(scores[own & included], scores[own & ~included], _THRESHOLD) for own in groups]
    level, mu = (1 - confidence) / len(groups), 1 / NOISE_MULTIPLIER
    value = max(mu_at(found, level) for found in errors)
    p_value = min(1.0, len(groups) * min(mu_p_value(found, mu) for found in errors))
    return EmpiricalLowerBound(value, confidence, "independent canaries"), p_value
