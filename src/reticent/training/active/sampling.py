"""Poisson sampling in a phase: every subject at the rate of the group it was labelled with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reticent.errors import InputError
from reticent.training.poisson_sampling import SubjectSampler


def phase_sampler(
    records_of: Mapping[str, Sequence[int]], groups: Mapping[str, int], rates: Sequence[float], max_records: int
) -> SubjectSampler:
    """The sampler of the subjects in `records_of`, each drawn independently at its group's rate.

    Args:
        records_of: record indices by subject.
        groups: the phase that each subject was labelled before, from 0.
        rates: of each group in this phase.
        max_records: of a subject in a step.

    Raises:
        InputError: a subject has no group, or one that the phase knows no rate of.
    """
    for subject in records_of:
        if not 0 <= groups.get(subject, -1) < len(rates):
            raise InputError(f"subject {subject} was not labelled before this phase; leave it out")
    return SubjectSampler(list(records_of.values()), [rates[groups[subject]] for subject in records_of], max_records)
