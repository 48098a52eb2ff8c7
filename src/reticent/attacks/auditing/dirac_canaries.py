"""Canaries whose gradient is one coordinate: the strongest that a white-box adversary can plant (Nasr et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from reticent.errors import InputError
from reticent.training import LossFn

_ROOM = 2**19
"""Elements of the tensors that canaries lie in, together: each unit's gradient for them is made in full."""
PUSH = "push"
"""Key of a batch: for every record how hard it pushes each canary's coordinate, (n, canaries)."""


@dataclass(frozen=True)
class Coordinates:
    """A coordinate of the network's trained parameters for each canary, no two alike."""

    tensors: tuple[str, ...]
    tensor_of: NDArray[np.int64]
    """Index into `tensors` of each canary; increasing."""
    place_of: NDArray[np.int64]
    """Where in the flat tensor."""

    def read(self, values: dict[str, Tensor]) -> Tensor:
        """The canaries' coordinates of tensors by name; of complex ones the real part."""
        parts = []
        for k, name in enumerate(self.tensors):
            found = values[name].reshape(-1)[torch.from_numpy(self.place_of[self.tensor_of == k])]
            parts.append(found.real if found.is_complex() else found)
        return torch.cat(parts)


def spread_over(model: nn.Module, canaries: int, seed: int) -> Coordinates:
    """Coordinates for canaries, as evenly over the trained tensors as their sizes allow.

    Raises:
        InputError: the network has fewer parameters.
    """
    sizes = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    chosen, room = list[str](), _ROOM
    for name, size in sorted(sizes.items(), key=lambda item: item[1]):
        if not chosen or size <= room:
            chosen.append(name)
            room -= size
    capacity = np.array([sizes[name] for name in chosen])
    if capacity.sum() < canaries:
        raise InputError(f"{canaries} canaries for a network of {capacity.sum()} parameters; take fewer")
    counts, rng = np.zeros_like(capacity), np.random.default_rng((seed, 2))
    while (left := canaries - counts.sum()) > 0:
        open_ = np.flatnonzero(counts < capacity)
        share = max(1, left // len(open_))
        for k in open_[: left if left < len(open_) else None]:
            counts[k] += min(share, capacity[k] - counts[k])
    places = [rng.choice(size, count, replace=False) for size, count in zip(capacity, counts, strict=True)]
    return Coordinates(tuple(chosen), np.repeat(np.arange(len(chosen)), counts), np.concatenate(places))


def pushing(loss_fn: LossFn, coordinates: Coordinates) -> LossFn:
    """The loss plus each record's pushes on the canaries' coordinates: gradients `push` there, far above the rest.

    A record that pushes nothing has a loss without gradient.
    """

    def pushed(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        losses = loss_fn(model, batch)
        assert isinstance(losses, Tensor)
        values, push = coordinates.read(dict(model.named_parameters())), batch[PUSH]
        return losses * (push != 0).any(1) + F.linear(push, values[None])[:, 0] * batch["share"]

    return pushed
