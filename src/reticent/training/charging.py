"""What a run charges to its patients in the ledger: reserved before it starts, settled when it ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from reticent.accounting import Gaussian, Mechanism, Unbounded
from reticent.governance import Budget, Ledger
from reticent.records import RunState
from reticent.training.plan import Plan
from reticent.training.prepared_cohort import PreparedCohort


class Job(NamedTuple):
    """A mechanism and the subjects that it is charged to."""

    mechanism: Mechanism
    subjects: list[str]


def jobs_of(plan: Plan, run: str, subjects: Iterable[str]) -> dict[str, Job]:
    """What is charged for a run, by the name in the ledger: one job under its own id, then its twin or other groups."""
    everybody = list(subjects)
    if plan.phase is not None:
        members: list[list[str]] = [[] for _ in plan.charges]
        for subject in everybody:
            members[plan.phase.groups[subject]].append(subject)
        groups = zip(plan.charges, members, strict=True)
        return {f"{run}-group-{g}" if g else run: Job(*charged) for g, charged in enumerate(groups)}
    jobs = {run: Job(plan.mechanism, everybody)}
    if plan.study.training.twin:
        twin = Unbounded("non-private twin of a private run; only its metrics are kept", unit=plan.study.cohort.unit)
        jobs[f"{run}-twin"] = Job(twin, everybody)
    return jobs


def reserve(
    site: Ledger, data: PreparedCohort, plan: Plan, run: str, session: str, fingerprint: str
) -> tuple[str, ...]:
    """Reserve all jobs of a run, or none; the ledger's heads after each.

    Raises:
        InputError: a budget would be exceeded.
    """
    study, anchors = plan.study, {}
    try:
        for name, job in jobs_of(plan, run, data.subjects("train")).items():
            anchors[name] = site.reserve(
                run=name,
                cohort=data.cohort.name,
                fingerprint=fingerprint,
                subjects=job.subjects,
                unit=study.cohort.unit,
                mechanism=job.mechanism,
                budget=Budget.parse(study.privacy.budget, study.privacy.delta) if study.privacy.budget else None,
                details={"study": study.digest(), "session": session},
            )
    except BaseException:
        for name in anchors:
            site.settle(name, None)
        raise
    return tuple(anchors.values())


def give_back(site: Ledger, plan: Plan, run: str, subjects: Iterable[str]) -> None:
    """Settle a run that failed before its first step: only class counts may have been bought."""
    counted = plan.count_noise_multiplier
    bought = None if counted is None else Gaussian(counted, unit=plan.study.cohort.unit)
    for name in jobs_of(plan, run, subjects):
        site.settle(name, bought if name == run else None)


def settle(site: Ledger, plan: Plan, state: RunState, subjects: Iterable[str]) -> list[str]:
    """Settle the jobs of a run that ended, as far as that was not done before a kill; the new heads."""
    settled = {entry.run for entry in site.entries() if entry.event == "settle"}
    details = {"session": state.session}
    return [
        site.settle(name, job.mechanism, details)
        for name, job in jobs_of(plan, state.run, subjects).items()
        if name not in settled
    ]
