"""Exponential moving average of the parameters: post-processing of private steps, free of charge."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MovingAverage:
    """Average with decay min(`decay`, (1 + t) / (10 + t)) at update t, so that early steps are soon forgotten."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.values = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the model's present state; integer buffers are copied."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, value in model.state_dict().items():
            if value.is_floating_point() or value.is_complex():
                self.values[name].lerp_(value, 1 - decay)
            else:
                self.values[name].copy_(value)

    def state_dict(self) -> dict[str, Tensor | int]:
        """The averaged values and the number of updates."""
        return {**self.values, "_updates": self.updates}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """The inverse of `state_dict`."""
        self.updates = int(state["_updates"])
        for name, value in self.values.items():
            value.copy_(torch.as_tensor(state[name]))
