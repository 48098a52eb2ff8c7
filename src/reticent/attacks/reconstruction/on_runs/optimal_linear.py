"""The optimal linear attack on a run's patients: an adversary without any idea of what such images look like."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

import torch
from pydantic import Field

from reticent.accounting import Gaussian
from reticent.attacks.loaded_run import LoadedRun
from reticent.attacks.reconstruction.comparison import compared
from reticent.attacks.reconstruction.image_grid import Column, save_grid
from reticent.attacks.reconstruction.matching import reidentified
from reticent.attacks.reconstruction.on_runs.findings import asset, likeness, rate
from reticent.attacks.reconstruction.on_runs.material import ReconstructionOptions, defence_of, gather, participations
from reticent.attacks.reconstruction.optimal_linear import optimal_linear_attack
from reticent.records import Finding
from reticent.training.noise import SeededSource

_LEFT_OUT = (
    "an adversary who knows what such images look like (visual)",
    "adversaries who do not know when a patient took part: they see less",
)


class LinearOptions(ReconstructionOptions):
    patients: Annotated[int, Field(ge=1)] = 50
    gallery: Annotated[int, Field(ge=2)] = 100
    """Images among which the patient is looked for."""


def attack(run: LoadedRun, options: LinearOptions) -> Iterator[Finding]:
    """Read each patient's image from the steps it is in, and shrink it as its norm suggests."""
    began, material, defence, looks = time.perf_counter(), gather(run, options), defence_of(run), participations(run)
    found = optimal_linear_attack(material.images, defence, SeededSource(material.seed, 3), observations=looks)
    targets, shrunk = material.unit(material.images), material.unit(found.shrunk)
    everyone = torch.cat([targets, material.unit(material.references[: max(0, options.gallery - len(targets))])])
    mean = material.unit(material.references).mean(0, keepdim=True)
    figure = run.work_folder("optimal-linear") / "images.png"
    columns = [
        Column("original", targets), Column("best unbiased", material.unit(found.unbiased)), Column("shrunk", shrunk),
        Column("mean image", mean.expand_as(targets)),
    ]  # fmt: skip
    save_grid(figure, columns, 5, f"{looks} steps with the patient, noise multiplier {defence.noise_multiplier:.3g}")
    width = material.box[1] - material.box[0]
    common: dict[str, Any] = {
        "attack": "optimal-linear",
        "asset": asset(run),
        "adversary": f"sent a network whose gradient is the image, sees {looks} noisy steps with the patient, knows "
        "which, and the image's norm",
        "left_out": _LEFT_OUT,
        "settings": {
            **material.settings(), "steps with the patient": looks, "noise multiplier": defence.noise_multiplier,
            "expected MSE of the best unbiased attack":
                sum(law.expected_mse() for law in found.laws) / len(found.laws) / width**2,
            "p-value of the gamma law": found.p_value, "p-value of the shrinkage law": found.shrinkage_p_value,
            "gallery": len(everyone),
        },
        "seed": material.seed,
        "seconds": time.perf_counter() - began,
        "figures": (figure.name,),
    }  # fmt: skip
    scores = compared("MSE", targets, shrunk, mean, confidence=options.confidence)
    yield likeness(scores, common, f"Images read from {looks} steps without a prior")
    yield rate(
        "re-identification rate",
        reidentified(material.unit(found.unbiased), everyone, torch.arange(len(targets))),
        common,
        confidence=options.confidence,
        baseline=1 / len(everyone),
        reading=f"Among {len(everyone)} known patients, the one whose image was read was recognised",
        guarantee=Gaussian(defence.noise_multiplier, steps=looks).profile().reconstruction(1 / len(everyone)),
    )
