"""The visual audit of a run: what its noise, and less noise, leaves to see of its patients."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from reticent.attacks.loaded_run import LoadedRun
from reticent.attacks.reconstruction.on_runs.findings import asset, likeness, rate
from reticent.attacks.reconstruction.on_runs.material import (
    Material,
    ReconstructionOptions,
    defence_of,
    gather,
    participations,
)
from reticent.attacks.reconstruction.priors import DiffusionPrior, EmpiricalPrior, GaussianPrior, Prior
from reticent.attacks.reconstruction.visual import Level, VisualAudit, visual_audit
from reticent.attacks.reconstruction.visual_grid import save_visual_grid
from reticent.errors import InputError
from reticent.records import Finding

_LESS = (1 / 100, 1 / 30, 1 / 10, 1 / 3)
_WITHOUT_PRIVACY = (0.003, 0.03, 0.3)
_DRAWN = 4
_LEFT_OUT = (
    "a better prior: this is what one prior makes of the images, and failure proves nothing",
    "adversaries who do not know when a patient took part: they see less",
    "what the picture invents: only what goes beyond the prior alone, and re-identification, is the patient's",
)


class VisualOptions(ReconstructionOptions):
    patients: Annotated[int, Field(ge=1)] = 20
    prior: Literal["wiener", "empirical", "diffusion"] = "wiener"
    """Closed form; the adversary's images themselves; or a diffusion model trained on them."""
    prior_file: Path | None = None
    """A diffusion prior that was saved; None: one is trained, and kept with the run's audits."""
    iterations: Annotated[int, Field(ge=1)] = 2500
    """Of training the diffusion prior."""
    gallery: Annotated[int, Field(ge=2)] = 100
    """Images among which the patient is looked for."""
    noise_multipliers: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    """Beside the run's; None: a hundredth to a third of it."""


def attack(run: LoadedRun, options: VisualOptions) -> Iterator[Finding]:
    """Denoise what the best linear attack reads of the patients, at the run's noise and at less."""
    began, material, defence = time.perf_counter(), gather(run, options), defence_of(run)
    prior, overlap = _prior(run, options, material)
    others = material.references[: max(0, options.gallery - len(material.images))]
    looks, own = participations(run), defence.noise_multiplier
    less = [own * part for part in _LESS] if own else _WITHOUT_PRIVACY
    chosen = {own, *(options.noise_multipliers if options.noise_multipliers is not None else less)}
    audit = visual_audit(
        material.images, prior, sorted(chosen), max_norm=defence.max_norm or 1.0, gallery=others,
        observations=looks, box=material.box, confidence=options.confidence, seed=material.seed,
    )  # fmt: skip
    figure = run.work_folder("visual") / "images.png"
    _draw(figure, audit, own, looks)
    common: dict[str, Any] = {
        "attack": "visual",
        "asset": asset(run),
        "adversary": f"sent a network whose gradient is the image, sees {looks} noisy steps with the patient and knows "
        f"which, and knows what such images look like ({options.prior} prior)",
        "left_out": _LEFT_OUT,
        "settings": {
            **material.settings(), **({"overlap": overlap} if overlap else {}), "prior": options.prior,
            "steps with the patient": looks, "gallery": audit.gallery,
            "levels of noise": [{name: round(value, 6) for name, value in row.items()} for row in audit.table()],
        },
        "seed": material.seed,
        "seconds": time.perf_counter() - began,
        "figures": (figure.name,),
    }  # fmt: skip
    (level,) = (level for level in audit.levels if level.noise_multiplier == own)
    yield likeness(level.scores["SSIM"], common, f"Images denoised from {looks} steps", "the prior's guess")
    yield rate(
        "re-identification rate",
        level.hits,
        common,
        confidence=options.confidence,
        baseline=1 / audit.gallery,
        reading=f"Among {audit.gallery} known patients, the one whose image was seen was recognised",
        guarantee=level.bound if own else None,
    )


def _prior(run: LoadedRun, options: VisualOptions, material: Material) -> tuple[Prior, str | None]:
    """The prior, and what its source has in common with the patients."""
    known = material.unit(material.references)
    if options.prior_file is not None:
        if options.prior != "diffusion":
            raise InputError(f"--set visual.prior_file is for visual.prior=diffusion, not {options.prior}")
        loaded = DiffusionPrior.load(options.prior_file)
        if loaded.mean.shape != material.images.shape[1:]:
            raise InputError(
                f"{options.prior_file}: a prior of images of {tuple(loaded.mean.shape)}, where the run's are "
                f"{tuple(material.images.shape[1:])}; train one on images of that size"
            )
        return loaded, f"prior from {loaded.source or 'an undeclared source'}, of which no overlap was looked for"
    if options.prior == "wiener":
        return GaussianPrior.fit(known, material.source), material.overlap
    if options.prior == "empirical":
        return EmpiricalPrior.fit(known, material.source), material.overlap
    return _trained(run, options, material, known), material.overlap


def _trained(run: LoadedRun, options: VisualOptions, material: Material, known: Tensor) -> DiffusionPrior:
    """Trained on the adversary's images, or found where an earlier audit kept it."""
    digest = hashlib.sha256(json.dumps([options.iterations, material.seed]).encode())
    digest.update(known.numpy().tobytes())
    kept = run.work_folder("visual") / f"prior-{digest.hexdigest()[:16]}.safetensors"
    if kept.is_file():
        return DiffusionPrior.load(kept)
    prior = DiffusionPrior.fit(
        known, material.source, iterations=options.iterations, seed=material.seed,
        checkpoint=kept.with_suffix(".unfinished"),
        progress=lambda done, total: run.progress("Training a diffusion prior", done, total),
    )  # fmt: skip
    prior.save(kept)
    return prior


def _draw(path: Path, audit: VisualAudit, own: float, looks: int) -> None:
    def titled(level: Level) -> str:
        mark = "the run's noise" if level.noise_multiplier == own else "noise"
        return f"{mark}\n{level.noise_multiplier:.3g}"

    save_visual_grid(path, audit, _DRAWN, titled, f"{looks} steps with the patient; prior from {audit.prior}")
