"""Malicious layers on a batch of a run's patients: imprint and trap weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from reticent.attacks.loaded_run import LoadedRun
from reticent.attacks.reconstruction.comparison import share
from reticent.attacks.reconstruction.image_grid import Column, save_grid
from reticent.attacks.reconstruction.implant import Implant
from reticent.attacks.reconstruction.imprint import imprint, read_imprint
from reticent.attacks.reconstruction.matching import match_reconstructions
from reticent.attacks.reconstruction.observed import NO_DEFENCE, Defence, observed_gradient
from reticent.attacks.reconstruction.on_runs.findings import asset, percent, rate
from reticent.attacks.reconstruction.on_runs.material import (
    Material,
    ReconstructionOptions,
    clipping_left_out,
    defence_of,
    gather,
)
from reticent.attacks.reconstruction.trap_weights import read_rows, trap
from reticent.records import Finding
from reticent.training.noise import SeededSource

_ADVERSARY = "sent the network with a layer of its own making in front, and sees the noisy sum of one batch's gradients"
_LEFT_OUT = (
    "an adversary who knows what such images look like and cleans up what was read (visual)",
    "several steps with the same patients",
    "secure aggregation, which would add more patients to the sum",
)


class ImplantOptions(ReconstructionOptions):
    patients: Annotated[int, Field(ge=1)] = 16
    """Patients of the attacked batch."""
    neurons: Annotated[int, Field(ge=2)] = 256
    """Of the layer."""
    threshold: Annotated[float, Field(gt=0)] = 1e-3
    """Mean squared error in units of [0, 1], up to which an image counts as recovered."""


@dataclass(frozen=True)
class _Layer:
    """How one kind of layer is made and read."""

    name: str
    build: Callable[[Material, ImplantOptions, dict[str, Any]], Implant]
    read: Callable[[Implant, Mapping[str, Tensor]], Tensor]


def _imprint(material: Material, options: ImplantOptions, network: dict[str, Any]) -> Implant:
    return imprint(material.references, options.neurons, **network)


def _trap(material: Material, options: ImplantOptions, network: dict[str, Any]) -> Implant:
    return trap(material.references, options.neurons, len(material.images), seed=material.seed, **network)


def imprint_attack(run: LoadedRun, options: ImplantOptions) -> Iterator[Finding]:
    """Neurons that measure the same, with thresholds of their own."""
    yield from _attack(run, options, _Layer("imprint", _imprint, read_imprint))


def trap_attack(run: LoadedRun, options: ImplantOptions) -> Iterator[Finding]:
    """Neurons that are rarely active."""
    yield from _attack(run, options, _Layer("trap-weights", _trap, read_rows))


def _attack(run: LoadedRun, options: ImplantOptions, layer: _Layer) -> Iterator[Finding]:
    began, material, defence = time.perf_counter(), gather(run, options), defence_of(run)
    outputs, *cells = run.label_task.output_shape(run.state.image_size)
    network = {"norm": defence.max_norm or 1.0, "outputs": outputs, "cells": tuple(cells)}
    implant = layer.build(material, options, network)
    seen = _recovered(run, material, implant, layer, defence)
    bare = _recovered(run, material, implant, layer, NO_DEFENCE) if defence.noise_std else seen
    targets, control = material.unit(material.images), material.unit(material.references[: options.neurons])
    unrelated = match_reconstructions(targets, control)
    figure = run.work_folder(layer.name) / "images.png"
    columns = [
        Column("original", targets), Column("read", _chosen(targets, seen)),
        Column("without noise", _chosen(targets, bare)), Column("nearest public", control[unrelated.index]),
    ]  # fmt: skip
    save_grid(figure, columns, 6, "each beside what was read that is most like it")
    hits = match_reconstructions(targets, seen).scores <= options.threshold
    without, _ = share(match_reconstructions(targets, bare).scores <= options.threshold)
    common: dict[str, Any] = {
        "attack": layer.name,
        "asset": asset(run),
        "adversary": _ADVERSARY,
        "left_out": _LEFT_OUT + clipping_left_out(run),
        "settings": {
            **material.settings(), "neurons": options.neurons, "threshold (MSE)": options.threshold,
            "noise multiplier": defence.noise_multiplier, "share recovered without clipping and noise": without,
        },
        "seed": material.seed,
        "seconds": time.perf_counter() - began,
        "figures": (figure.name,),
    }  # fmt: skip
    yield rate(
        "share of images recovered",
        hits,
        common,
        confidence=options.confidence,
        baseline=float((unrelated.scores <= options.threshold).double().mean()),
        reading=f"From the gradients of {len(targets)} patients together, a patient's image was read all but exactly",
        further=f" Without clipping and noise: in {percent(without)}." if defence.noise_std else "",
    )


def _recovered(run: LoadedRun, material: Material, implant: Implant, layer: _Layer, defence: Defence) -> Tensor:
    """Candidates in [0, 1]; a grey image where none was read."""
    batch = material.batch(range(len(material.images)))
    source = SeededSource(material.seed, 2)
    found = layer.read(implant, observed_gradient(implant, run.label_task.loss_fn(), batch, defence, source))
    unit = material.unit(found.float()).clamp(0, 1)
    return unit if len(unit) else material.unit(material.images[:1]) * 0 + 0.5


def _chosen(targets: Tensor, candidates: Tensor) -> Tensor:
    return candidates[match_reconstructions(targets, candidates).index]
