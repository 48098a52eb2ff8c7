"""What a network says of records: with gradients, and in evaluation mode without."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

CHUNK = 32


def network_inputs(inputs: Mapping[str, Tensor]) -> Tensor | dict[str, Tensor]:
    """What a network is called with: a single input as a tensor, several as a dictionary."""
    return next(iter(inputs.values())) if len(inputs) == 1 else dict(inputs)


def forward(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """The model's logits."""
    output = model(network_inputs(inputs))
    return output[0] if isinstance(output, tuple) else output


@torch.no_grad()
def predict(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Logits in evaluation mode, a chunk at a time."""
    model.eval()
    count = len(next(iter(inputs.values())))
    chunks = [
        forward(model, {name: x[start : start + CHUNK] for name, x in inputs.items()})
        for start in range(0, count, CHUNK)
    ]
    return torch.cat(chunks)
