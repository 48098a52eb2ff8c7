"""Membership inference on a released model, patient by patient."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy.stats import norm

from reticent.attacks.loaded_run import LoadedRun
from reticent.attacks.membership.likelihood_ratio import calibrated, lira_offline, lira_online
from reticent.attacks.membership.references import References, reference_models
from reticent.attacks.membership.relative import rmia_offline, rmia_online
from reticent.attacks.membership.signals import Signals, record_signals
from reticent.attacks.options import AttackOptions
from reticent.attacks.roc import auc, found_at, largest_auc, power_of
from reticent.attacks.scores import Array
from reticent.records import Finding, Number

_RATES = (0.01, 0.001)
_BLACK_BOX = "has the released model and a patient's images with their labels"


class LossOptions(AttackOptions):
    aggregate: Literal["mean", "sum"] = "mean"
    """Of the scores of a patient's images."""


class ReferenceOptions(AttackOptions):
    references: Annotated[int, Field(ge=2, le=1024, multiple_of=2)] = 8
    """Trainings of the run's study on halves of the patients."""
    mode: Literal["online", "offline"] = "online"
    """offline: references that were trained without a patient alone, as for an adversary who meets patients later."""
    aggregate: Literal["mean", "sum"] = "sum"


@dataclass(frozen=True)
class Pool:
    """Records of members and of held-out patients, by patient."""

    records: list[int]
    patient_of: np.ndarray
    """Index of each record's patient."""
    is_member: np.ndarray
    """Of each patient."""
    drawn: bool
    """Whether chance decided who is held out: else differences between both count as success of an attack."""


def by_patient(scores: Array, patient_of: np.ndarray, how: Literal["mean", "sum"]) -> Array:
    """A patient's score from those of the images: the sum, as if they were independent, or the mean."""
    totals = np.bincount(patient_of, scores).astype(np.float64)
    return totals if how == "sum" else totals / np.bincount(patient_of)


def loss_attack(run: LoadedRun, options: LossOptions) -> Iterator[Finding]:
    """The model's own confidence, higher for members: no reference models, and the weakest attack."""
    began, pool = time.perf_counter(), _pool(run)
    target = record_signals(run.model, run.data, run.task, pool.records)
    scores = by_patient(target.phi, pool.patient_of, options.aggregate)
    how = _How("loss", _BLACK_BOX, ("attacks that compare with reference models: lira and rmia",), {}, None)
    yield from _findings(run, pool, scores, how, options, began)


def lira_attack(run: LoadedRun, options: ReferenceOptions) -> Iterator[Finding]:
    """Likelihood ratios against reference models."""
    online = options.mode == "online"
    yield from _with_references(
        run, options, "lira", lambda target, refs: (lira_online if online else lira_offline)(
            target.phi, refs.signals.phi, refs.inside
        )
    )  # fmt: skip


def rmia_attack(run: LoadedRun, options: ReferenceOptions) -> Iterator[Finding]:
    """Probabilities relative to those of reference models: strong with few of them."""
    online = options.mode == "online"
    yield from _with_references(
        run, options, "rmia", lambda target, refs: (rmia_online if online else rmia_offline)(
            target.log_p, refs.signals.log_p, refs.inside
        )
    )  # fmt: skip


def calibrated_attack(run: LoadedRun, options: ReferenceOptions) -> Iterator[Finding]:
    """Confidence less that of reference models without the patient."""
    yield from _with_references(
        run, options, "calibrated-loss", lambda target, refs: calibrated(target.phi, refs.signals.phi, refs.inside)
    )


@dataclass(frozen=True)
class _How:
    """What a finding says of the attack behind it."""

    attack: str
    adversary: str
    left_out: tuple[str, ...]
    settings: dict[str, object]
    seed: int | None


def _with_references(
    run: LoadedRun, options: ReferenceOptions, name: str, score: Callable[[Signals, References], Array]
) -> Iterator[Finding]:
    began, pool = time.perf_counter(), _pool(run)
    references = reference_models(run, pool.records, options.references, options)
    target = record_signals(run.model, run.data, run.task, pool.records)
    scores = by_patient(score(target, references), pool.patient_of, options.aggregate)
    knows = f"{_BLACK_BOX}, and data and means to train {options.references} models as the run was trained"
    settings: dict[str, object] = {"references": options.references, "mode": options.mode}
    gap = "references that see more than half of the patients, or more of them, which would find a little more"
    how = _How(name, knows, (gap,), settings, references.seed)
    yield from _findings(run, pool, scores, how, options, began)


def _pool(run: LoadedRun) -> Pool:
    data = run.data
    roles = {split: list(data.labelled(split).items()) for split in ("train", "val", "test")}
    members, others = roles["train"], roles["val"] + roles["test"]
    patients = members + others
    return Pool(
        records=[record for _, own in patients for record in own],
        patient_of=np.repeat(np.arange(len(patients)), [len(own) for _, own in patients]),
        is_member=np.arange(len(patients)) < len(members),
        drawn=all(entry.split is None for entry in data.cohort.entries),
    )


def _findings(
    run: LoadedRun, pool: Pool, scores: Array, how: _How, options: LossOptions | ReferenceOptions, began: float
) -> Iterator[Finding]:
    members, others = scores[pool.is_member], scores[~pool.is_member]
    profile = run.mechanism.profile()
    rates = [rate for rate in _RATES if len(others) * rate >= 1]
    tests, private = 1 + len(rates), run.state.noise_multiplier is not None
    bounded = private and pool.drawn
    finding = partial(
        Finding,
        attack=how.attack,
        asset="membership of a patient" if run.study.cohort.unit == "subject" else "membership of a record",
        adversary=how.adversary,
        kind="estimate",
        left_out=how.left_out if pool.drawn else (*how.left_out, _NOT_DRAWN),
        settings={
            **how.settings, "aggregate": options.aggregate, "members": len(members), "held out": len(others),
        },
        seed=how.seed,
        seconds=time.perf_counter() - began,
    )  # fmt: skip
    area, interval, error = auc(members, others, options.confidence)
    certified = largest_auc(profile)
    yield finding(
        metric="AUC",
        value=area,
        interval=interval,
        baseline=0.5,
        guarantee=Number(lower=0.5, upper=certified, kind="upper bound") if bounded else None,
        p_value=min(1.0, tests * float(norm.sf((area - certified) / max(error, 1e-12)))) if bounded else None,
        reading=f"A member got a higher score than a patient who was held out in {100 * area:.3g} % of pairs; guessing "
        f"gives 50 %{_limit(bounded, certified)}.",
    )
    for rate in rates:
        found = found_at(members, others, rate)
        power = profile.power(rate)
        interval = found.interval(options.confidence)
        yield finding(
            metric=f"TPR at FPR {100 * rate:g} %",
            value=found.value,
            interval=interval,
            baseline=rate,
            guarantee=Number.of(power) if bounded else None,
            p_value=min(1.0, tests * found.p_value(power_of(profile))) if bounded else None,
            reading=f"With false alarms for {100 * rate:g} % of outsiders, {100 * found.value:.3g} % of the training "
            f"patients were found ({100 * interval.lower:.3g} to {100 * (interval.upper or 1):.3g} %); guessing finds "
            f"{100 * rate:g} %{_limit(bounded, power.upper)}.",
        )


_NOT_DRAWN = (
    "members and held-out patients were not told apart by chance but by the cohort's own splits: whatever else differs "
    "between them counts as success, so that no guarantee stands beside"
)


def _limit(bounded: bool, certified: float) -> str:
    return f", and no attack more than {100 * certified:.3g} %" if bounded else ""
