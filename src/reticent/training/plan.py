"""The plan of a private run: one value that fixes sampling, clipping and noise together with their mechanism.

Made from public study values alone, before any pixel is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reticent.accounting import (
    AdvantageTarget,
    BandedGaussian,
    Composition,
    EpsilonTarget,
    Gaussian,
    LocalRandomisedResponse,
    Mechanism,
    MuTarget,
    SubsampledGaussian,
    Target,
    Unbounded,
    calibrate,
)
from reticent.errors import InputError
from reticent.records import Study
from reticent.training.private_features import private_features_mechanism
from reticent.training.schedule_choice import with_chosen_schedule

COUNT_NOISE_MULTIPLIER = 10.0
"""Noise on the class counts, if they are bought: a standard deviation of ten subjects."""


@dataclass(frozen=True)
class CampaignPhase:
    """A run that is one phase of an active-learning campaign: its groups of subjects, and what came before it."""

    groups: Mapping[str, int]
    """The phase that each training subject was labelled before, from 0."""
    rates: tuple[float, ...]
    """Sampling rate of each group."""
    stated: Mechanism
    """What the campaign guarantees at the end of this phase: the statement is about it."""
    first_weights: Path | None
    """Weights that the previous phase released."""


@dataclass(frozen=True)
class Plan:
    """`noise_multiplier` and `count_noise_multiplier` are None where that noise is not part of the run."""

    study: Study
    noise_multiplier: float | None
    count_noise_multiplier: float | None
    classes: int | None = None
    """Number of classes, which randomised labels are accounted with."""
    phase: CampaignPhase | None = None

    @property
    def charges(self) -> tuple[Mechanism, ...]:
        """What the run does to its subjects, for each group of them; one for all where it is no campaign's."""
        if self.phase is None:
            return (self.mechanism,)
        assert self.noise_multiplier is not None
        steps, unit = self.study.privacy.steps, self.study.cohort.unit
        return tuple(SubsampledGaussian(self.noise_multiplier, rate, steps, unit=unit) for rate in self.phase.rates)

    @property
    def mechanism(self) -> Mechanism:
        """What will have been done to every training subject's data: by the run, or by its campaign so far."""
        if self.phase is not None:
            return self.phase.stated
        if self.noise_multiplier is None:
            return Unbounded("trained without noise (--non-private)", unit=self.study.cohort.unit)
        return _mechanism(self.study, self.noise_multiplier, self.count_noise_multiplier, self.classes)


def expected_batch_size(study: Study, subjects: int) -> float:
    """Expected subjects a step: as declared, else of so many training `subjects`."""
    privacy = study.privacy
    return privacy.batch_size or privacy.sampling_rate * subjects / privacy.groups


def expected_subjects(study: Study, subjects: int) -> float:
    """Training subjects as the declared batch size and the sampling rate imply them, else `subjects`."""
    privacy = study.privacy
    return expected_batch_size(study, subjects) * privacy.groups / privacy.sampling_rate


def make_plan(study: Study, classes: int | None = None) -> Plan:
    """Calibrate the noise to the study's target; a study with `epochs` gets its steps and sampling rate first.

    `classes`, their number, is needed where labels are randomised.

    Raises:
        InputError: the target cannot be reached; the message names the option and the range.
    """
    if study.privacy.epochs is not None:
        study = with_chosen_schedule(study, lambda made: make_plan(made).noise_multiplier or 0.0)
    privacy = study.privacy
    counted = study.training.class_weights == "counted"
    if privacy.non_private:
        if counted:
            raise InputError("--class-weights counted buys counts with noise; with --non-private declare the weights")
        return Plan(study, None, None)
    count_noise = COUNT_NOISE_MULTIPLIER if counted else None
    if privacy.noise_multiplier is not None:
        return Plan(study, privacy.noise_multiplier, count_noise, classes)
    target = _target(study)
    if privacy.label_epsilon is not None:
        _leave_room(LocalRandomisedResponse(privacy.label_epsilon, _counted(classes)), target)
    found = calibrate(lambda s: _mechanism(study, s, count_noise, classes), target)
    return Plan(study, found.value, count_noise, classes)


def _target(study: Study) -> Target:
    privacy = study.privacy
    if privacy.epsilon is not None:
        return EpsilonTarget(privacy.epsilon, privacy.stated_delta)
    if privacy.mu is not None:
        return MuTarget(privacy.mu)
    assert privacy.advantage is not None
    return AdvantageTarget(privacy.advantage)


def _counted(classes: int | None) -> int:
    if classes is None:
        raise InputError("--label-epsilon needs the number of classes: call make_plan(study, classes)")
    return classes


def _leave_room(labels: Mechanism, target: Target) -> None:
    if target.achieved(labels.profile()).upper >= target.value:
        raise InputError(f"--label-epsilon alone spends the whole target, {target}; lower it, or relax the target")


def _mechanism(study: Study, noise_multiplier: float, count_noise: float | None, classes: int | None) -> Mechanism:
    privacy, unit = study.privacy, study.cohort.unit
    if privacy.private_activations:
        if privacy.label_epsilon is not None:
            classes = _counted(classes)
        return private_features_mechanism(noise_multiplier, privacy.label_epsilon, classes, unit)
    training: Mechanism = SubsampledGaussian(noise_multiplier, privacy.sampling_rate, privacy.steps, unit=unit)
    if privacy.groups > 1:  # one group is DP-SGD, and is recorded as such
        training = BandedGaussian(noise_multiplier, privacy.groups, privacy.sampling_rate, privacy.steps, unit=unit)
    if count_noise is None:
        return training
    return Composition((Gaussian(count_noise, unit=unit), training))
