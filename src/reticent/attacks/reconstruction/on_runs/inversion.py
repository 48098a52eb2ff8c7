"""Gradient inversion of a run's patients, one at a time, on the run's own network."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from reticent.attacks.loaded_run import LoadedRun
from reticent.attacks.reconstruction.comparison import Compared, compared
from reticent.attacks.reconstruction.image_grid import Column, save_grid
from reticent.attacks.reconstruction.inversion import SEARCHES, invert_gradient
from reticent.attacks.reconstruction.linear_layer import label_of_one
from reticent.attacks.reconstruction.matching import match_reconstructions
from reticent.attacks.reconstruction.observed import NO_DEFENCE, Defence, observed_gradient
from reticent.attacks.reconstruction.on_runs.findings import asset, likeness, rate
from reticent.attacks.reconstruction.on_runs.material import (
    Material,
    ReconstructionOptions,
    clipping_left_out,
    defence_of,
    gather,
)
from reticent.attacks.reconstruction.scores import mse
from reticent.attacks.reconstruction.soft_loss import probabilities, soft_loss, soft_targets
from reticent.records import Finding
from reticent.training import new_network
from reticent.training.noise import SeededSource

_CANDIDATES = ("inverting-gradients", "cosine", "likelihood")
_LEFT_OUT = (
    "an adversary who changes the network (imprint, trap-weights) or adds up several steps (visual)",
    "augmentation: the image is attacked as it is stored",
)


class InversionOptions(ReconstructionOptions):
    patients: Annotated[int, Field(ge=1)] = 4
    search: Literal["auto", "inverting-gradients", "cosine", "layer-wise", "deep-leakage", "likelihood"] = "auto"
    """"auto": of three, the one that does best on two of the adversary's own images."""
    batch: Annotated[int, Field(ge=1)] = 1
    """Patients whose gradients are summed; of several the adversary has the labels, and images are told apart after."""
    weights: Literal["fresh", "released"] = "fresh"
    """Of the network whose gradient is seen: those of a first round, or those of the run's end."""
    iterations: Annotated[int, Field(ge=1)] | None = None
    """Of each search; None: 300 to 800, as is usual for it."""
    restarts: Annotated[int, Field(ge=1)] = 1
    mask: Literal["known", "searched"] = "known"
    """Of a segmentation: whether the adversary has it, or searches for it too."""


@dataclass(frozen=True)
class _Victim:
    """A network, and the patients whose gradients are seen."""

    run: LoadedRun
    model: nn.Module
    material: Material
    options: InversionOptions

    def rebuild(self, rows: Sequence[int], defence: Defence, search: str) -> tuple[Tensor, bool]:
        """The images found for the patients of one gradient, each in its patient's place, and whether a single one's
        label was recognised.
        """
        task, shape, seed = self.run.task, tuple(self.material.images.shape[1:]), rows[0]
        source, batch = SeededSource(self.material.seed, seed), self.material.batch(rows)
        seen = observed_gradient(self.model, task.loss_fn(), batch, defence, source)
        known = soft_targets(task, batch["targets"])
        label, recognised = self._label(seen, known)
        free: dict[str, Any] = {"targets": label}
        if task.segments and self.options.mask == "searched":
            free = {"unknown": lambda z: probabilities(task, z), "unknown_shape": tuple(known.shape[1:])}
        usual = SEARCHES[search]
        how = replace(
            usual, restarts=self.options.restarts, iterations=self.options.iterations or usual.iterations
        )  # fmt: skip
        found = invert_gradient(
            self.model, soft_loss(task), seen, shape, search=how, box=self.material.box, defence=defence, seed=seed,
            records=len(rows), **free,
        )  # fmt: skip
        if len(rows) == 1:
            return found.images, recognised
        own = match_reconstructions(batch["inputs"]["image"], found.images, one_to_one=True)
        return found.images[own.index], recognised

    def _label(self, seen: dict[str, Tensor], known: Tensor) -> tuple[Tensor, bool]:
        """The label as the last bias shows it (of one class a record), or the true target."""
        if len(known) > 1 or self.run.task.segments:
            return known, True
        biases = [g for name, g in seen.items() if name.endswith("bias") and g.shape == known.shape[1:]]
        if not biases:
            return known, True
        if self.run.task.kind == "multi-label":
            several = (biases[-1][None] < 0).to(known)
            return several, bool((several == known).all())
        label = label_of_one(biases[-1])
        found = torch.zeros_like(known)
        found[0, label] = 1
        return found, bool(known[0, label] == 1)


def attack(run: LoadedRun, options: InversionOptions) -> Iterator[Finding]:
    """Search for each patient's image, from a gradient with the run's clipping and noise, and from one without."""
    name = "segmentation-inversion" if run.task.segments else "gradient-inversion"
    began, material, defence = time.perf_counter(), gather(run, options), defence_of(run)
    victim = _Victim(run, _network(run, options, material), material, options)
    search = _rehearsed(victim, defence) if options.search == "auto" else options.search
    count = len(material.images)
    found, labels, bare = [], [], []
    for rows in torch.arange(count).split(options.batch):
        images, recognised = victim.rebuild(rows.tolist(), defence, search)
        found.append(images)
        labels.append(recognised)
        bare.append(victim.rebuild(rows.tolist(), NO_DEFENCE, search)[0] if defence.max_norm else images)
        run.progress("Inverting gradients", int(rows[-1]) + 1, count)
    targets, rebuilt = material.unit(material.images), material.unit(torch.cat(found))
    without, mean = material.unit(torch.cat(bare)), material.unit(material.references).mean(0, keepdim=True)
    figure = run.work_folder(name) / "images.png"
    columns = [
        Column("original", targets), Column("rebuilt", rebuilt), Column("without noise", without),
        Column("mean image", mean.expand_as(targets)),
    ]  # fmt: skip
    save_grid(figure, columns, 6, f"search: {search}; noise multiplier {defence.noise_multiplier:.3g}")
    scores = {m: compared(m, targets, rebuilt, mean, confidence=options.confidence) for m in ("SSIM", "PSNR")}
    plain = {m: compared(m, targets, without, mean) for m in ("SSIM", "PSNR")}
    common: dict[str, Any] = {
        "attack": name,
        "asset": asset(run),
        "adversary": f"sent the network, and sees the noisy gradient of {_whom(options)}{_known(run, options)}",
        "left_out": _LEFT_OUT + clipping_left_out(run),
        "settings": {
            **material.settings(), "search": search, "batch": options.batch, "weights": options.weights,
            "restarts": options.restarts, "noise multiplier": defence.noise_multiplier,
            **{f"{m} without clipping and noise": _said(c) for m, c in plain.items()},
        },
        "seed": material.seed,
        "seconds": time.perf_counter() - began,
        "figures": (figure.name,),
    }  # fmt: skip
    for metric in scores:
        further = f" Without clipping and noise: {metric} {plain[metric].value:.3g}." if defence.noise_std else ""
        yield likeness(scores[metric], common, "Images rebuilt from a gradient", further=further)
    if run.task.kind in ("binary", "multi-class") and options.batch == 1:
        yield _labels(run, material, labels, options, common)


def _labels(
    run: LoadedRun, material: Material, labels: Sequence[bool], options: InversionOptions, common: dict[str, Any]
) -> Finding:
    truth = material.targets["label"]
    most = float(torch.bincount(truth, minlength=len(run.task.classes)).max()) / len(truth)
    return rate(
        "labels recognised",
        torch.tensor(labels),
        {**common, "asset": "label of a patient", "figures": ()},
        confidence=options.confidence,
        baseline=most,
        reading="The label was read from the gradient of the last bias",
    )


def _network(run: LoadedRun, options: InversionOptions, material: Material) -> nn.Module:
    if options.weights == "released":
        return run.model
    with torch.random.fork_rng():
        torch.manual_seed(material.seed)
        return new_network(
            run.study.model, next(iter(run.state.inputs.values())), len(run.task.classes), run.state.image_size,
            output=run.task.output,
        ).eval()  # fmt: skip


def _rehearsed(victim: _Victim, defence: Defence) -> str:
    """The search that does best on two images of the adversary's own; the first one where they have no labels."""
    material = victim.material
    if not material.reference_targets:
        return _CANDIDATES[0]
    own = Material(
        material.references[:2], {name: value[:2] for name, value in material.reference_targets.items()},
        material.references, {}, material.box, material.source, None, material.seed,
    )  # fmt: skip
    trial = _Victim(victim.run, victim.model, own, victim.options)
    errors = {}
    for search in _CANDIDATES:
        images = [trial.rebuild([i], defence, search)[0] for i in range(len(own.images))]
        errors[search] = float(mse(own.images, torch.cat(images)).mean())
    return min(errors, key=errors.__getitem__)


def _whom(options: InversionOptions) -> str:
    return "a single patient" if options.batch == 1 else f"{options.batch} patients together"


def _known(run: LoadedRun, options: InversionOptions) -> str:
    if run.task.segments:
        return " and has the mask" if options.mask == "known" else ""
    return " and has the labels" if options.batch > 1 else ""


def _said(compared_: Compared) -> list[float]:
    """The value and its interval, then the mean image's."""
    interval = compared_.interval
    return [round(v, 4) for v in (compared_.value, interval.lower, interval.upper or 0.0, compared_.baseline)]
