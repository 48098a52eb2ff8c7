"""Performance and resistance to reconstruction, budget by budget (Ziller et al. 2024, Nature Machine Intelligence).

Three attackers: one who is told everything but who took part (certified), one who does not know the sign of a patient's
contribution (estimate), and a malicious server without candidates or prior, who is tried out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reticent.accounting import (
    FromScratchAttack,
    GLRTAdversary,
    Mechanism,
    SubsampledGaussian,
    Unbounded,
    compose_sampled_glrt,
)
from reticent.attacks.reconstruction.comparison import share
from reticent.attacks.reconstruction.implant import Implant
from reticent.attacks.reconstruction.matching import match_reconstructions
from reticent.attacks.reconstruction.observed import NO_DEFENCE, Defence, observed_gradient
from reticent.attacks.reconstruction.on_runs.material import Material
from reticent.attacks.reconstruction.scores import pairwise
from reticent.attacks.reconstruction.trap_weights import read_rows, trap
from reticent.errors import InputError
from reticent.records import Budget, Number, Performance, Reconciliation
from reticent.training import Progress, Task
from reticent.training.noise import SeededSource

_ACCURACY = 1e-4
_SATURATED = 10.0
"""Of mu, from where a step with the patient is told from one without but for a chance of 1e-8."""


@dataclass(frozen=True)
class Protocol:
    """What all budgets share: how patients are sampled, and how the malicious layer attacks."""

    subjects: int
    sampling_rate: float
    steps: int
    max_norm: float
    delta: float
    unit: str = "subject"
    batch: int = 16
    neurons: int = 256
    threshold: float = 1e-3
    confidence: float = 0.95

    @property
    def participations(self) -> int:
        """Steps that a patient takes part in on average, at least one."""
        return max(1, round(self.sampling_rate * self.steps))


def reconcile(
    protocol: Protocol,
    material: Material,
    task: Task,
    performance: Mapping[float | None, Performance],
    *,
    cohort: str,
    metric: str,
    split: str,
    more: Sequence[float] = (),
    progress: Progress = lambda stage, done, total: None,
) -> Reconciliation:
    """Attack the material's images at every noise multiplier that has a performance, and at `more`.

    Args:
        performance: by noise multiplier; None: without privacy.

    Raises:
        InputError: no budget has noise.
    """
    noises = sorted({sigma for sigma in (*performance, *more) if sigma is not None})
    if not noises:
        raise InputError("no budget has noise: reconcile runs of several noise multipliers")
    outputs, *cells = task.output_shape(tuple(material.images.shape[2:]))
    layer = trap(
        material.references, protocol.neurons, protocol.batch, norm=protocol.max_norm, seed=material.seed,
        outputs=outputs, cells=tuple(cells),
    )  # fmt: skip
    targets, others = material.unit(material.images), material.unit(material.references[: protocol.neurons])
    control = match_reconstructions(targets, others).scores
    budgets: list[float | None] = [*([None] if None in performance else []), *noises]
    rows: list[Budget] = []
    for sigma in budgets:
        progress("Attacking budgets", len(rows), len(budgets))
        rows.append(_row(protocol, material, task, layer, sigma, performance.get(sigma)))
    progress("Attacking budgets", len(rows), len(budgets))
    return Reconciliation(
        cohort=cohort,
        unit="record" if protocol.unit == "record" else "subject",
        subjects=protocol.subjects,
        sampling_rate=protocol.sampling_rate,
        steps=protocol.steps,
        participations=protocol.participations,
        metric=metric,
        split=split,
        threshold=protocol.threshold,
        attacked=len(targets),
        batch=protocol.batch,
        neurons=protocol.neurons,
        control=float((control <= protocol.threshold).double().mean()),
        control_similarity=float(pairwise("SSIM", targets, others).max(1).values.mean()),
        source=material.source,
        overlap=material.overlap,
        seed=material.seed,
        rows=tuple(rows),
    )


def _row(
    protocol: Protocol, material: Material, task: Task, layer: Implant, sigma: float | None, value: Performance | None
) -> Budget:
    targets = material.unit(material.images)
    candidates = _read(protocol, material, task, layer, sigma)
    matched = torch.cat([match_reconstructions(own, found).scores for own, found in candidates])
    alike = torch.cat([pairwise("SSIM", own, found).max(1).values for own, found in candidates])
    recovered, interval = share(matched <= protocol.threshold, protocol.confidence)
    profile = _mechanism(protocol, sigma).profile(_ACCURACY)
    unbiased, shrunk = _from_scratch(protocol, material, sigma, targets)
    return Budget(
        noise_multiplier=sigma,
        epsilon=Number.of(profile.epsilon(protocol.delta), delta=protocol.delta),
        worst_case=Number.of(profile.reconstruction(1 / protocol.subjects)),
        relaxed=_relaxed(protocol, sigma),
        from_scratch=unbiased,
        shrinkage=shrunk,
        recovered=recovered,
        interval=interval,
        similarity=float(alike.mean()),
        performance=value,
    )


def _mechanism(protocol: Protocol, sigma: float | None) -> Mechanism:
    unit = "record" if protocol.unit == "record" else "subject"
    if sigma is None:
        return Unbounded("trained without noise", unit=unit)  # type: ignore[arg-type]
    return SubsampledGaussian(sigma, protocol.sampling_rate, protocol.steps, unit=unit)  # type: ignore[arg-type]


def _read(
    protocol: Protocol, material: Material, task: Task, layer: Implant, sigma: float | None
) -> list[tuple[Tensor, Tensor]]:
    """Of each batch the targets and the candidates that the layer gave away, in [0, 1]."""
    defence = NO_DEFENCE if sigma is None else Defence(protocol.max_norm, sigma)
    source, found = SeededSource(material.seed, 4), []
    for rows in torch.arange(len(material.images)).split(protocol.batch):
        batch = material.batch(rows.tolist())
        seen = read_rows(layer, observed_gradient(layer, task.loss_fn(), batch, defence, source))
        unit = material.unit(seen.float()).clamp(0, 1)
        own = material.unit(batch["inputs"]["image"])
        found.append((own, unit if len(unit) else torch.full_like(own[:1], 0.5)))
    return found


def _relaxed(protocol: Protocol, sigma: float | None) -> float:
    prior = 1 / protocol.subjects
    if sigma is None:
        return 1.0
    adversary = GLRTAdversary(min(1 / sigma, _SATURATED), 1, protocol.sampling_rate)
    return compose_sampled_glrt(adversary, protocol.steps, [prior])[0].value


def _from_scratch(protocol: Protocol, material: Material, sigma: float | None, targets: Tensor) -> tuple[float, float]:
    """Mean chances over the images, each by its own norm as the network is fed it."""
    if sigma is None:
        return 1.0, 1.0
    error = protocol.threshold * (material.box[1] - material.box[0]) ** 2
    chances = []
    for norm in material.images.double().flatten(1).norm(dim=1).clamp_min(1e-6).tolist():
        law = FromScratchAttack(targets[0].numel(), sigma, norm, observations=protocol.participations)
        shrunk = FromScratchAttack(
            targets[0].numel(), sigma, norm, observations=protocol.participations, estimator="shrinkage"
        )
        chances.append((law.mse_cdf(error), shrunk.mse_cdf(error)))
    return tuple(math.fsum(column) / len(chances) for column in zip(*chances, strict=True))  # type: ignore[return-value]
