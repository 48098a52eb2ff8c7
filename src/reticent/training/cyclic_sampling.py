"""Cyclic Poisson sampling: the subjects take turns in groups, each drawn within its group's turn."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reticent.records import PrivacyOptions
from reticent.training.noise import RandomSource
from reticent.training.poisson_sampling import SubjectSampler


@dataclass(frozen=True)
class CyclicSampler:
    """Step t draws each subject of group t mod `len(groups)` independently, and nobody else.

    A subject takes part at most once in any `len(groups)` steps, by the steps' numbers alone: also over interruptions.
    One group is Poisson sampling.
    """

    groups: tuple[SubjectSampler, ...]

    def draw(self, step: int, source: RandomSource) -> tuple[list[int], list[int]]:
        """Record indices of the step's batch and the unit (0, 1, ...) of each; both private, both possibly empty."""
        return self.groups[step % len(self.groups)].draw(source)


def cyclic_sampler(subjects: Mapping[str, Sequence[int]], privacy: PrivacyOptions, key: bytes) -> CyclicSampler:
    """The sampler of a run: its subjects are split by `group_of`; groups may be empty.

    Args:
        subjects: record indices by subject.
        privacy: the number of groups, the chance of a subject in its group's turn, and its most records in a step.
        key: of the run; the same key gives the same groups, so that nothing need be stored to resume.
    """
    groups: list[list[Sequence[int]]] = [[] for _ in range(privacy.groups)]
    for subject, records in subjects.items():
        groups[group_of(subject, privacy.groups, key)].append(records)
    rate, most = privacy.sampling_rate, privacy.max_records_per_subject
    return CyclicSampler(tuple(SubjectSampler(group, rate, most) for group in groups))


def group_of(subject: str, groups: int, key: bytes) -> int:
    """The group of a subject: HMAC-SHA256(key, subject), as a fraction of 1, times `groups`, rounded down.

    It depends on the key and the subject alone, as if drawn uniformly and independently for each: a subject more or
    less changes one group by one subject and moves nobody else. For every fixed assignment, Theorem 4 of Choquette-Choo
    et al. (2023) bounds the run by ceil(steps / groups) sampled Gaussian steps; a mixture over assignments that is the
    same with and without the subject is no worse, by the joint convexity of the hockey-stick divergence. (Groups of
    equal sizes cut from a permutation would not do: a subject more would shift the others.) The guarantee takes no
    credit for the groups' being secret.
    """
    digest = hmac.digest(key, subject.encode(), hashlib.sha256)
    return int.from_bytes(digest, "big") * groups >> 256
