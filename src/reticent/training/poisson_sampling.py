"""Poisson sampling of subjects, each with at most a fixed number of records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reticent.training.noise import RandomSource, bernoulli


@dataclass(frozen=True)
class SubjectSampler:
    """Draws every subject independently with probability `sampling_rate`.

    All records of a drawn subject come along, at most `max_records` of them (a fresh uniform choice).
    """

    records_of: Sequence[Sequence[int]]
    """Record indices of each subject."""
    sampling_rate: float
    max_records: int

    def draw(self, source: RandomSource) -> tuple[list[int], list[int]]:
        """Record indices of one batch and the unit (0, 1, ...) of each; both private, both possibly empty."""
        records: list[int] = []
        units: list[int] = []
        for unit, subject in enumerate(
            np.flatnonzero(bernoulli(self.sampling_rate, len(self.records_of), source)).tolist()
        ):
            own = list(self.records_of[subject])
            if len(own) > self.max_records:
                own = [own[k] for k in np.argsort(source.words(len(own)))[: self.max_records]]
            records += own
            units += [unit] * len(own)
        return records, units
