"""One training with canaries: what it proves about epsilon and mu, and whether noise and batches are as accounted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from reticent.attacks.auditing.canary_findings import Guarantee, one_run_findings
from reticent.attacks.auditing.canary_game import Game, Played, affordable, game_study, play
from reticent.attacks.auditing.noise_law import noise_law
from reticent.attacks.auditing.sampling_law import sampling_law
from reticent.attacks.auditing.watch import likelihood_ratios
from reticent.attacks.loaded_run import LoadedRun
from reticent.attacks.options import AttackOptions
from reticent.attacks.roc import Found, found_at, power_of
from reticent.records import GAP_LEVEL, Finding, Interval, Number

_TESTS = 5
"""Of one audit: every p-value is multiplied by it."""
_RATE = 0.1
_EXACTLY_ONE = Number(lower=1.0, upper=1.0, kind="exact")
_ADVERSARY = "sees every noisy sum of the training, knows everyone else's images, and planted the patients in question"
_LEFT_OUT = (
    "the patients' own images: canaries are made-up, no patient was used and none is charged",
    "the random source of a real run: the game's is seeded, to be repeatable",
    "what is made of the noisy sums (optimiser, averages): it cannot reveal more than they do",
)


class OneRunOptions(AttackOptions):
    canaries: Annotated[int, Field(ge=20, le=5000)] | None = None
    """None: 1000, or fewer where the run's own training was shorter."""


def attack(run: LoadedRun, options: OneRunOptions) -> Iterator[Finding]:
    """A second training by the run's own study, of made-up patients among whom are canaries."""
    began, seed = time.perf_counter(), run.seed(options)
    privacy = run.study.privacy
    price = privacy.steps * privacy.sampling_rate / privacy.groups  # half the canaries take part, at twice the time
    game = Game(options.canaries or affordable(run, price), 1, False, seed)
    study = game_study(run, game)
    played = play(run, game, study, run.work_folder("one-run") / "game", "A training with canaries")
    scores = likelihood_ratios(played.outputs, study)
    inside, outside = scores[played.included], scores[~played.included]
    common: dict[str, Any] = {
        "attack": "one-run",
        "asset": "membership of a patient",
        "adversary": _ADVERSARY,
        "left_out": _LEFT_OUT,
        "settings": {"canaries": game.canaries, "canaries in": len(inside), "canaries in the released model": False},
        "seed": seed,
        "seconds": time.perf_counter() - began,
    }
    guarantee = Guarantee(run.statement.epsilon, run.statement.delta, run.statement.mu)
    yield from one_run_findings(inside, outside, guarantee, options.confidence, _TESTS, common)
    yield _found(run, found_at(inside, outside, _RATE), options.confidence, common)
    yield _noise(played, options.confidence, common)
    yield _sampling(played, privacy.sampling_rate, options.confidence, common)


def _found(run: LoadedRun, found: Found, confidence: float, common: Mapping[str, Any]) -> Finding:
    profile = run.mechanism.profile()
    certified, interval = profile.power(_RATE), found.interval(confidence)
    assert interval.upper is not None
    return Finding(
        **common,
        metric=f"TPR at FPR {100 * _RATE:g} %",
        value=found.value,
        interval=interval,
        baseline=_RATE,
        kind="estimate",
        guarantee=Number.of(certified),
        p_value=min(1.0, _TESTS * found.p_value(power_of(profile))),
        reading=f"Raising false alarms for {100 * _RATE:g} % of outsiders, this strongest of attackers found "
        f"{100 * found.value:.3g} % of the planted patients ({100 * interval.lower:.3g} to "
        f"{100 * interval.upper:.3g} %); no attack can find more than {100 * certified.upper:.3g} %.",
    )


def _noise(played: Played, confidence: float, common: Mapping[str, Any]) -> Finding:
    law = noise_law(played.noise, confidence)
    p_value = min(1.0, _TESTS * law.p_value)
    return Finding(
        **_of_software(common, "noise of the training", {"correlation of successive steps": law.correlation}),
        metric="size of the noise",
        value=law.ratio,
        interval=Interval(lower=law.interval[0], upper=law.interval[1], confidence=confidence),
        kind="estimate",
        guarantee=_EXACTLY_ONE,
        p_value=p_value,
        reading="The noise is NOT what is accounted for: it is smaller in some part of the network, or repeats itself. "
        f"Where it is oddest it is {law.ratio:.3g} times as large as it should be."
        if p_value < GAP_LEVEL
        else "In every part of the network the noise was as large as is accounted for (1; the value is that of the "
        "oddest part), and fresh at every step.",
    )


def _sampling(played: Played, rate: float, confidence: float, common: Mapping[str, Any]) -> Finding:
    law = sampling_law(played.taken, rate, played.group_of, played.steps, confidence)
    p_value, oddest = min(1.0, _TESTS * law.p_value), law.oddest
    spreads = {"spread of sizes": law.sizes.value, "spread of participations": law.participations.value}
    return Finding(
        **_of_software(common, "drawing of batches", spreads),
        metric="spread of the batches",
        value=oddest.value,
        interval=Interval(lower=oddest.interval[0], upper=oddest.interval[1], confidence=confidence),
        kind="estimate",
        guarantee=_EXACTLY_ONE,
        p_value=p_value,
        reading="The batches were NOT drawn as is accounted for: their sizes, or how often a patient takes part, vary "
        f"{oddest.value:.3g} times as much as if every patient were drawn independently."
        if p_value < GAP_LEVEL
        else "The batches vary as they must (1) if every patient is drawn independently at every step.",
    )


def _of_software(common: Mapping[str, Any], asset: str, settings: Mapping[str, float]) -> dict[str, Any]:
    adversary = "none; whether the software does what is accounted for is tested"
    return {**common, "asset": asset, "adversary": adversary, "settings": {**common["settings"], **settings}}
