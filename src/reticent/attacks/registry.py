"""The attacks that `reticent audit` knows by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from reticent.attacks.auditing import one_run, planted_images, step
from reticent.attacks.loaded_run import LoadedRun
from reticent.attacks.membership import attack as membership
from reticent.attacks.options import AttackOptions
from reticent.attacks.reconstruction.on_runs import identification, implants, inversion, optimal_linear, visual
from reticent.attacks.reconstruction.on_runs.material import no_gradients, no_noisy_gradients
from reticent.data import PADDING
from reticent.errors import InputError
from reticent.records import RIDGE, Finding
from reticent.training import Classification, GuidedClassification, Restoration


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
    patients: bool = False
    """Whether it reads them, and cannot do without."""
    default: bool = False
    """Whether it is part of an audit that names no attack: all of these together cost at most one training."""


def _no_sampled_gradients(run: LoadedRun) -> str | None:
    if run.state.noise_multiplier is None:
        return "the run was trained without noise"
    if run.study.privacy.private_activations:
        return "the run adds noise to features, not to gradients"
    if run.study.model.name == RIDGE:
        return "the run is solved from moments, not trained by gradients"
    return _one_of_a_campaign(run)


def _nobody_held_out(run: LoadedRun) -> str | None:
    if reason := _restores(run):
        return reason
    return None if run.folder.held_out_subjects() else "nobody was held out to compare members with"


def _restores(run: LoadedRun) -> str | None:
    restores = isinstance(run.task, Restoration)
    return "the run restores hidden parts of images, whose errors this attack does not score" if restores else None


def _no_references(run: LoadedRun) -> str | None:
    return _one_of_a_campaign(run) or _nobody_held_out(run)


def _one_of_a_campaign(run: LoadedRun) -> str | None:
    if run.statement.sampling_rate is None and not run.study.privacy.private_activations:
        return "the run is a phase of a labelling campaign, whose groups of patients have rates of their own"
    return None


def _classifies(run: LoadedRun) -> str | None:
    if run.task.segments:
        return "the run segments: see segmentation-inversion"
    if isinstance(run.task, GuidedClassification):
        return "the run's gradients are of masks too, which this attack does not search for"
    if PADDING in run.state.inputs:
        return "the network is told which slices are padding, which a search for the image alone leaves out"
    return no_gradients(run) if isinstance(run.task, Classification) else "the run does not classify"


def _segments(run: LoadedRun) -> str | None:
    return no_gradients(run) if run.task.segments else "the run does not segment: see gradient-inversion"


def _whole_run(run: LoadedRun) -> str | None:
    return no_gradients(run) or _one_of_a_campaign(run)


_TRAININGS = "as many trainings as references (8); charged to all patients as unbounded"
_ATTACKS: tuple[Attack, ...] = (
    Attack(
        "step",
        "planted patients in one training step: clipping and noise",
        "half a training at most, of made-up patients",
        step.attack,
        step.StepOptions,
        _no_sampled_gradients,
        default=True,
    ),
    Attack(
        "one-run",
        "planted patients in a whole training: epsilon, mu, noise and batches",
        "half a training at most, of made-up patients",
        one_run.attack,
        one_run.OneRunOptions,
        _no_sampled_gradients,
        default=True,
    ),
    Attack(
        "loss",
        "who was in the training data, by the model's confidence",
        "one pass over the patients",
        membership.loss_attack,
        membership.LossOptions,
        _nobody_held_out,
        patients=True,
        default=True,
    ),
    Attack(
        "planted-images",
        "planted patients in a second training on the run's patients: epsilon and mu from the final weights",
        "one training; charged to its patients once more",
        planted_images.attack,
        planted_images.PlantedOptions,
        lambda run: _no_sampled_gradients(run) or _restores(run),
        patients=True,
    ),
    Attack(
        "lira",
        "who was in the training data, by likelihood ratios against reference models",
        _TRAININGS,
        membership.lira_attack,
        membership.ReferenceOptions,
        _no_references,
        patients=True,
    ),
    Attack(
        "rmia",
        "the same by relative probabilities, strong with few reference models",
        _TRAININGS,
        membership.rmia_attack,
        membership.ReferenceOptions,
        _no_references,
        patients=True,
    ),
    Attack(
        "calibrated-loss",
        "the same by confidence less that of reference models",
        _TRAININGS,
        membership.calibrated_attack,
        membership.ReferenceOptions,
        _no_references,
        patients=True,
    ),
    Attack(
        "identification",
        "which of several known patients took part: the game that reconstruction bounds are about",
        "seconds",
        identification.attack,
        identification.IdentificationOptions,
        _whole_run,
        patients=True,
        default=True,
    ),
    Attack(
        "visual",
        "pictures of what noise leaves of patients' images, for an adversary who knows such images",
        "seconds; minutes with prior=diffusion",
        visual.attack,
        visual.VisualOptions,
        _whole_run,
        patients=True,
        default=True,
    ),
    Attack(
        "optimal-linear",
        "the same without any knowledge of such images, against its law",
        "seconds",
        optimal_linear.attack,
        optimal_linear.LinearOptions,
        lambda run: no_noisy_gradients(run) or _one_of_a_campaign(run),
        patients=True,
    ),
    Attack(
        "imprint",
        "images of a batch, by a malicious layer of graded thresholds",
        "seconds",
        implants.imprint_attack,
        implants.ImplantOptions,
        no_gradients,
        patients=True,
    ),
    Attack(
        "trap-weights",
        "images of a batch, by a malicious layer of rarely active neurons",
        "seconds",
        implants.trap_attack,
        implants.ImplantOptions,
        no_gradients,
        patients=True,
    ),
    Attack(
        "gradient-inversion",
        "the image of a patient, by search for one with the gradient that was seen",
        "minutes",
        inversion.attack,
        inversion.InversionOptions,
        _classifies,
        patients=True,
    ),
    Attack(
        "segmentation-inversion",
        "the same of a segmentation network",
        "minutes",
        inversion.attack,
        inversion.InversionOptions,
        _segments,
        patients=True,
    ),
)
ATTACKS: dict[str, Attack] = {attack.name: attack for attack in _ATTACKS}


def chosen_attacks(names: Sequence[str]) -> tuple[Attack, ...]:
    """The attacks of these names, or the default ones.

    Raises:
        InputError: there is none of a name.
    """
    unknown = [name for name in names if name not in ATTACKS]
    if unknown:
        raise InputError(f"no attack {unknown[0]!r}; there are {', '.join(ATTACKS)}")
    return tuple(ATTACKS[name] for name in dict.fromkeys(names)) or tuple(a for a in _ATTACKS if a.default)
