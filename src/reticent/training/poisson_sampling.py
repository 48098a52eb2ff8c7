"""Poisson sampling of subjects, each with at most a fixed number of records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reticent.errors import InputError
from reticent.training.noise import RandomSource, bernoulli


@dataclass(frozen=True)
class SubjectSampler:
    """Draws every subject independently with probability `sampling_rate`: one for all subjects, or one for each.

    All records of a drawn subject come along, at most `max_records` of them (a fresh uniform choice).

    Raises:
        InputError: the rates are not one for each subject, each between 0 and 1.
    """

    records_of: Sequence[Sequence[int]]
    """Record indices of each subject."""
    sampling_rate: float | Sequence[float]
    max_records: int

    def __post_init__(self) -> None:
        if not isinstance(self.sampling_rate, float | int):
            if len(self.sampling_rate) != len(self.records_of):
                raise InputError(f"{len(self.sampling_rate)} sampling rates for {len(self.records_of)} subjects")
            if not all(0 <= rate <= 1 for rate in self.sampling_rate):
                raise InputError("a subject's sampling rate is not between 0 and 1")

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
