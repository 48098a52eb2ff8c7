"""A cohort of made-up patients with images of noise, shaped like those of a run: nobody's data are in it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reticent.data import Cohort, Entry
from reticent.records import RunState


@dataclass(frozen=True)
class MadeUpReader:
    """Uniform noise in [0, 1] from the image's own stream; masks of independent labels."""

    seed: int
    channels: tuple[tuple[str, int], ...]
    size: tuple[int, ...]
    labels: int | None
    """Of masks; None where images have one label."""

    def shape(self, locator: int) -> tuple[int, ...]:
        return self.size

    def spacing(self, locator: int) -> None:
        return None

    def decode(self, locator: int) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        rng = np.random.default_rng((self.seed, locator))
        inputs = {name: rng.random((count, *self.size), np.float32) for name, count in self.channels}
        return inputs, None if self.labels is None else rng.integers(0, self.labels, self.size)

    def digest(self, locator: int) -> bytes:
        return hashlib.sha256(self.stamp(locator).encode()).digest()

    def stamp(self, locator: int) -> str:
        return f"{self.seed} {locator} {self.channels} {self.size} {self.labels}"


def made_up_cohort(state: RunState, images: Mapping[str, int], seed: int) -> Cohort:
    """Training subjects with so many `images` each, in the given order, for the network of a run."""
    task: Any = state.task
    entries, reader = made_up_entries(state, images, seed), made_up_reader(state, state.inputs, seed)
    return Cohort("made-up", "made-up", task, state.classes, entries, state.inputs, len(state.image_size), True, reader)


def made_up_entries(state: RunState, images: Mapping[str, int], seed: int) -> list[Entry]:
    """Records of training subjects, with labels drawn for each."""
    rng, entries = np.random.default_rng((seed, 1)), list[Entry]()
    for subject, count in images.items():
        label = None if state.task == "segmentation" else _label(state, rng)
        entries += [Entry(f"{subject}/{i}", subject, "train", label, {}, len(entries) + i) for i in range(count)]
    return entries


def made_up_reader(state: RunState, channels: Mapping[str, int], seed: int) -> MadeUpReader:
    """Images of the run's size with these channels by input."""
    labels = len(state.classes) if state.task == "segmentation" else None
    return MadeUpReader(seed, tuple(channels.items()), state.image_size, labels)


def _label(state: RunState, rng: np.random.Generator) -> int | tuple[int, ...]:
    if state.task == "multi-label":
        return tuple(rng.integers(0, 2, len(state.classes)).tolist())
    return int(rng.integers(len(state.classes)))
