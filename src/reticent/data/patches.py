"""Patches of large images: where they are cut, at random with the foreground oversampled, or from the centre."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.random import Generator

from reticent.data.cache import DecodedCache

_MOST_PLACES = 10_000


class Patches:
    """Cuts patches of one size out of the records of a cache.

    A patch is centred on the foreground with probability `foreground`: on a voxel drawn from those of one label, drawn
    from the labels that the record has; else it lies anywhere inside. Nothing but the record itself is used.
    """

    def __init__(self, cache: DecodedCache, size: tuple[int, ...], foreground: float) -> None:
        self._cache, self._size, self._foreground = cache, size, foreground
        self._places: dict[int, list[np.ndarray]] = {}

    def central(self, records: Sequence[int]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Inputs and targets of the patch in the middle of each record."""
        corners = [[(side - own) // 2 for side, own in zip(self._shape(i), self._size, strict=True)] for i in records]
        return self._cut([(i, corner) for i, corner in zip(records, corners, strict=True)])

    def drawn(
        self, records: Sequence[int], count: int, generator: Generator
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Inputs and targets of so many patches of each record, those of a record one after another."""
        return self._cut([(i, self._corner(i, generator)) for i in records for _ in range(count)])

    def _corner(self, record: int, generator: Generator) -> list[int]:
        room = [side - own for side, own in zip(self._shape(record), self._size, strict=True)]
        labels = self._labels(record, generator) if generator.random() < self._foreground else []
        if not labels:
            return [int(generator.integers(most + 1)) for most in room]
        places = labels[generator.integers(len(labels))]
        centre = places[generator.integers(len(places))]
        return [int(np.clip(c - own // 2, 0, most)) for c, own, most in zip(centre, self._size, room, strict=True)]

    def _labels(self, record: int, generator: Generator) -> list[np.ndarray]:
        """For each label of the record's mask, places (n, d) of it, a random part of many."""
        if record not in self._places:
            mask = self._cache.view("mask", record)
            found = [np.argwhere(mask == label) for label in np.unique(mask[mask > 0])]
            self._places[record] = [
                places if len(places) <= _MOST_PLACES else generator.choice(places, _MOST_PLACES, replace=False)
                for places in found
            ]
        return self._places[record]

    def _shape(self, record: int) -> tuple[int, ...]:
        return self._cache.view(self._cache.inputs[0], record).shape[1:]

    def _cut(self, places: Sequence[tuple[int, list[int]]]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        def stacked(name: str) -> np.ndarray:
            if not places:
                return self._cache.view(name, 0)[self._inside([0] * len(self._size))][None][:0].copy()
            return np.stack([self._cache.view(name, record)[self._inside(corner)] for record, corner in places])

        inputs = {name: stacked(name) for name in self._cache.inputs}
        if not (self._cache.has_masks and self._cache.labelled([record for record, _ in places])):
            return inputs, {}
        return inputs, {"mask": stacked("mask").astype(np.int64)}

    def _inside(self, corner: Sequence[int]) -> tuple[Any, ...]:
        return ..., *(slice(start, start + side) for start, side in zip(corner, self._size, strict=True))
