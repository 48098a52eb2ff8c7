"""The attacks that `reticent audit` knows by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from reticent.attacks import one_run, step
from reticent.attacks.loaded_run import LoadedRun
from reticent.attacks.options import AttackOptions
from reticent.records import Finding


def _fits_all(run: LoadedRun) -> None:
    return None


@dataclass(frozen=True)
class Attack:
    """One line of the registry; `findings(run, options)` takes options of the type `options`."""

    name: str
    summary: str
    cost: str
    """In words, for the list of attacks: "seconds", "one training", "as many trainings as references"."""
    findings: Callable[[LoadedRun, Any], Iterator[Finding]]
    options: type[AttackOptions] = AttackOptions
    unfit: Callable[[LoadedRun], str | None] = _fits_all
    """Why the attack makes no sense on a run; None if it does."""
    default: bool = False
    """Whether it is part of an audit that names no attack: all of these together cost at most one training."""


def _not_sampled_gradients(run: LoadedRun) -> str | None:
    if run.state.noise_multiplier is None:
        return "the run was trained without noise"
    if run.study.privacy.private_activations:
        return "the run adds noise to features, not to gradients"
    if run.statement.sampling_rate is None:
        return "the run is a phase of a labelling campaign, whose groups of patients have rates of their own"
    return None


_ATTACKS: tuple[Attack, ...] = (
    Attack(
        "step",
        "planted patients in one training step: clipping and noise",
        "up to half a training, of made-up patients",
        step.attack,
        step.StepOptions,
        _not_sampled_gradients,
        default=True,
    ),
    Attack(
        "one-run",
        "planted patients in a whole training: epsilon, mu, noise and batches",
        "up to half a training, of made-up patients",
        one_run.attack,
        one_run.OneRunOptions,
        _not_sampled_gradients,
        default=True,
    ),
)
ATTACKS: dict[str, Attack] = {attack.name: attack for attack in _ATTACKS}
