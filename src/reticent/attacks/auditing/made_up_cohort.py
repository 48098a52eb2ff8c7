"""A cohort of made-up patients with images of noise, shaped like those of a run: nobody's data are in it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from reticent.data import DECODED_TARGETS, Cohort, Entry, input_shape
from reticent.records import RunState
from reticent.training import Task


@dataclass(frozen=True)
class MadeUpReader:
    """Uniform noise in [0, 1] from the image's own stream; targets drawn at random."""

    seed: int
    channels: tuple[tuple[str, int], ...]
    size: tuple[int, ...]
    task: Task

    def shape(self, locator: int) -> tuple[int, ...]:
        return self.size

    def spacing(self, locator: int) -> None:
        return None

    def decode(self, locator: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        rng = np.random.default_rng((self.seed, locator))
        inputs = {name: rng.random(input_shape(name, count, self.size), np.float32) for name, count in self.channels}
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        targets = self.task.made_up_targets(1, self.size, generator)
        return inputs, {name: value[0].numpy() for name, value in targets.items()}

    def digest(self, locator: int) -> bytes:
        return hashlib.sha256(self.stamp(locator).encode()).digest()

    def stamp(self, locator: int) -> str:
        return f"{self.seed} {locator} {self.channels} {self.size} {self.task}"


def made_up_cohort(state: RunState, task: Task, images: Mapping[str, int], seed: int) -> Cohort:
    """Training subjects with so many `images` each, in the given order, for the network and task of a run."""
    kind: Any = state.task
    entries, reader = made_up_entries(state, task, images, seed), made_up_reader(state, task, state.inputs, seed)
    return Cohort(
        "made-up", "made-up", kind, state.classes, entries, state.inputs, len(state.image_size), True, reader,
        ranges=state.ranges,
    )  # fmt: skip


def made_up_entries(state: RunState, task: Task, images: Mapping[str, int], seed: int) -> list[Entry]:
    """Records of training subjects, with labels drawn for each."""
    entries, generator = list[Entry](), torch.Generator().manual_seed(seed)
    labels = None
    if state.task not in DECODED_TARGETS:
        labels = task.made_up_targets(len(images), state.image_size, generator)["label"].tolist()
    for k, (subject, count) in enumerate(images.items()):
        label = None if labels is None else tuple(labels[k]) if isinstance(labels[k], list) else labels[k]
        entries += [Entry(f"{subject}/{i}", subject, "train", label, {}, len(entries) + i) for i in range(count)]
    return entries


def made_up_reader(state: RunState, task: Task, channels: Mapping[str, int], seed: int) -> MadeUpReader:
    """Images of the run's size with these channels by input."""
    return MadeUpReader(seed, tuple(channels.items()), state.image_size, task)
