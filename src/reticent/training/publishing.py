"""The statement of a run: its numbers, and in words what they do not cover."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Sequence
from typing import Any

from reticent.accounting import Composition, Mechanism, mechanism_from_dict
from reticent.records import PrivacyStatement, RunState, Study, privacy_numbers
from reticent.training.noise import RandomSource
from reticent.training.plan import Plan
from reticent.training.private_features import LABELS_NOT_COVERED

_PACKAGES = ("reticent", "torch", "numpy", "monai")


def make_statement(
    plan: Plan,
    state: RunState,
    source: RandomSource,
    *,
    subjects: int,
    weights: bytes,
    assumed: str | None = None,
) -> PrivacyStatement:
    """The privacy statement of a run that has spent all its planned steps, on training `subjects`, about `weights`.

    The weights are a function of what earlier runs on some of these subjects saw, if the first weights come from such:
    their mechanisms are composed with this run's.
    """
    privacy = plan.study.privacy
    private = plan.noise_multiplier is not None
    return PrivacyStatement(
        **privacy_numbers(composed(plan, state.earlier_mechanisms), privacy.stated_delta),
        run=state.run,
        created=state.created,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        releasable=private and source.cryptographic,
        noise_multiplier=plan.noise_multiplier,
        sampling_rate=None if privacy.private_activations or plan.phase is not None else privacy.sampling_rate,
        steps=1 if privacy.private_activations else privacy.steps,  # of the mechanism: features are released once
        max_norm=privacy.max_norm if private else None,
        max_records_per_subject=privacy.max_records_per_subject,
        not_covered=_not_covered(plan, state, subjects, assumed),
        composed_runs=state.earlier_runs,
        random_source=source.description,
        public_weights=state.public_weights,
        software={name: importlib.metadata.version(name) for name in _PACKAGES} | {"python": platform.python_version()},
    )


def weak_delta(study: Study, subjects: int) -> str | None:
    """What a delta of 1 / subjects or more leaves open; None if it is smaller."""
    delta = study.privacy.stated_delta
    if delta < 1 / subjects:
        return None
    return (
        f"a delta that is too large: delta = {delta:g} is not below 1 / training {study.cohort.unit}s, and a mechanism "
        "that publishes one of them in full could satisfy it; choose a smaller --delta"
    )


def composed(plan: Plan, earlier: Sequence[dict[str, Any]]) -> Mechanism:
    """The plan's mechanism, with those, as they are stored, of earlier runs on the same subjects.

    Raises:
        InputError: they differ in their unit or neighbouring relation.
    """
    parts = [mechanism_from_dict(mechanism) for mechanism in earlier]
    return Composition((*parts, plan.mechanism)) if parts else plan.mechanism


def _not_covered(plan: Plan, state: RunState, subjects: int, assumed: str | None) -> tuple[str, ...]:
    study = plan.study
    if plan.noise_multiplier is None:
        return ("everything: the run was not private",)
    unit = study.cohort.unit
    gaps = [
        "metrics on held-out patients (private/metrics.json, report.html): they read private records without noise; "
        "they chose nothing",
        "hyper-parameter search: if options were chosen by looking at earlier runs on these patients, those runs count "
        "too (the ledger lists them)",
        "floating-point effects of the noise: Gaussian values are drawn and added in double precision, not from a "
        "discrete distribution",
        "observation of the training itself: running time, memory, progress",
        "the contents of private/, findings/ and report.html, which stay inside the hospital",
    ]
    if (weak := weak_delta(study, subjects)) is not None:
        gaps.insert(0, weak)
    if study.privacy.private_activations:
        if study.privacy.label_epsilon is None:
            gaps.insert(0, LABELS_NOT_COVERED)
        gaps.append(f"the number of training {unit}s, which is public under replace-one")
    elif study.privacy.batch_size is None:
        gaps.append(
            f"the number of training {unit}s, which scales the updates and is treated as public "
            "(declare --batch-size to avoid this)"
        )
    gaps += _treated_as_public(study, state)
    if study.training.twin:
        gaps.append(
            "the non-private twin: it was trained on the same patients without noise; its metrics stay in private/ and "
            "report.html"
        )
    if unit == "subject" and assumed is not None:
        gaps.insert(0, f"patients who are there under several identifiers: {assumed}")
    if unit == "record":
        gaps.append(
            "patients: only single records are protected; a patient with k records has a weaker guarantee than stated"
        )
    if plan.phase is not None:
        gaps.append(
            f"the numbers of {unit}s, labelled in each phase and waiting to be, which are treated as public: an absent "
            f"{unit} keeps an empty place among those to select from"
        )
        gaps.append("what those who label see: which patients were selected, and their images")
    if state.earlier_runs:
        runs = " and ".join(state.earlier_runs)
        gaps.append(
            f"the choice of this run's options after seeing run {runs}, whose weights it started from: the numbers "
            "here are of both together, as a plan fixed beforehand"
        )
    elif study.model.init_from is not None:
        gaps.append("the data behind the first weights, declared public by the user")
    return tuple(gaps)


def _treated_as_public(study: Study, state: RunState) -> list[str]:
    """What the shape of the records and the user's declarations tell."""
    surfaces, gaps = len(state.image_size) == 1, list[str]()
    declared = study.cohort.image_size or study.cohort.patch_size
    if declared is None and not surfaces:
        gaps.append("the image size, chosen from the files' headers (declare --image-size to avoid this)")
    named = "targets with their declared ranges" if state.task == "regression" else "classes"
    shapes = "" if surfaces else ", and the images' channels and dimensions"
    gaps.append(f"the names and number of {named}{shapes}, which are treated as public")
    if study.cohort.markers:
        gaps.append("the names, categories, scales and limits of markers, which are declared as public constants")
    if study.cohort.reference is not None:
        gaps.append("the reference surface, declared public by the user")
    return gaps
