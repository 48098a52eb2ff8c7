"""Which of several known patients took part? The game that reconstruction robustness is about, on a run's own terms."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from reticent.attacks.loaded_run import LoadedRun
from reticent.attacks.reconstruction.identification import candidate_gradients, fingerprints, play_identification
from reticent.attacks.reconstruction.on_runs.findings import asset, rate
from reticent.attacks.reconstruction.on_runs.material import ReconstructionOptions, gather
from reticent.errors import InputError
from reticent.records import Finding
from reticent.training.noise import SeededSource

_NUMBERS = 50_000_000
_ADVERSARY = "sees every noisy sum, sent the network, and has the images of all candidates, of whom one took part"
_LEFT_OUT = (
    "an adversary without candidates, who must rebuild the image",
    "the random source of the real run: the game's is seeded, to be repeatable",
)


class IdentificationOptions(ReconstructionOptions):
    patients: Annotated[int, Field(ge=2)] = 10
    """Candidates."""
    trials: Annotated[int, Field(ge=10)] = 2000
    """Trainings that are played, fewer if they have very many steps."""


def attack(run: LoadedRun, options: IdentificationOptions) -> Iterator[Finding]:
    """Play trainings with one of the candidates each, by the run's clipping, noise and sampling."""
    began, material, privacy = time.perf_counter(), gather(run, options), run.study.privacy
    count = len(material.images)
    if count < 2:
        raise InputError(f"{run.folder.path}: one training patient is no choice; the attack needs two")
    norm, sigma = privacy.max_norm, run.state.noise_multiplier
    outputs, *cells = run.label_task.output_shape(run.state.image_size)
    layer = fingerprints(material.images, norm, outputs=outputs, cells=tuple(cells))
    gradients = candidate_gradients(layer, run.label_task.loss_fn(), [material.batch([i]) for i in range(count)], norm)
    steps = -(-privacy.steps // privacy.groups)
    trials = max(10, min(options.trials, _NUMBERS // (steps * count)))
    source = SeededSource(material.seed, 1)
    hits = play_identification(gradients, norm * (sigma or 0.0), privacy.sampling_rate, steps, trials, source)
    common: dict[str, Any] = {
        "attack": "identification",
        "asset": asset(run),
        "adversary": _ADVERSARY,
        "left_out": _LEFT_OUT,
        "settings": {"candidates": count, "trials": trials, "steps": steps, "sampling rate": privacy.sampling_rate},
        "seed": material.seed,
        "seconds": time.perf_counter() - began,
    }
    yield rate(
        "identification rate",
        hits,
        common,
        confidence=options.confidence,
        baseline=1 / count,
        reading=f"Told that one of {count} patients took part, this strongest of attackers named the right one",
        guarantee=None if sigma is None else run.mechanism.profile().reconstruction(1 / count),
    )
