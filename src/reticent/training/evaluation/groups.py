"""Subgroups of held-out patients: which there are, and which are too small to be shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import compress
from typing import Literal

import numpy as np

from reticent.records import SMALLEST_GROUP, GroupMetrics, Measured
from reticent.training.evaluation.statistics import Flags

LARGEST_VOCABULARY = 20
"""Attributes with more values are not subgroups but identifiers or measurements."""


def group(
    kind: Literal["class", "attribute"],
    name: str,
    subjects: Sequence[str],
    members: Flags,
    metrics: Callable[[], dict[str, Measured]],
) -> GroupMetrics:
    """The group of the records in `members`, shape (n,); nothing is computed for fewer than 10 subjects."""
    count = len(set(compress(subjects, members)))
    if count < SMALLEST_GROUP:
        return GroupMetrics(kind=kind, name=name, subjects=None)
    return GroupMetrics(kind=kind, name=name, subjects=count, metrics=metrics())


def rests_on_few(subjects: Sequence[str], members: Flags) -> bool:
    """Whether a metric over the records in `members` would describe fewer than 10 subjects, but at least one."""
    return 0 < len(set(compress(subjects, members))) < SMALLEST_GROUP


def attribute_groups(
    subjects: Sequence[str],
    attributes: Sequence[Mapping[str, str]],
    metrics: Callable[[Flags, Sequence[str]], dict[str, Measured]],
) -> list[GroupMetrics]:
    """One group ("sex=F") for every value of every attribute with at most 20 values.

    Args:
        metrics: from the members, shape (n,), and the subjects of the members' records.
    """
    return [
        group("attribute", name, subjects, members, partial(metrics, members, list(compress(subjects, members))))
        for name, members in _attribute_values(attributes)
    ]


def _attribute_values(attributes: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, Flags]]:
    for key in sorted({key for row in attributes for key in row}):
        vocabulary = sorted({row[key] for row in attributes if key in row})
        if len(vocabulary) <= LARGEST_VOCABULARY:
            for value in vocabulary:
                yield f"{key}={value}", np.array([row.get(key) == value for row in attributes], dtype=bool)
