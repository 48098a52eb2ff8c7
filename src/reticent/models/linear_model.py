"""A linear map of all values of a record: what a ridge regression is solved for."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn


class LinearModel(nn.Module):
    """Inputs (n, C, *image_size), flattened, to (n, out_channels).

    `penalty` is the ridge's, on weights of standardised inputs.
    """

    def __init__(self, in_channels: int, out_channels: int, image_size: Sequence[int], penalty: float = 10.0) -> None:
        super().__init__()
        self.penalty = penalty
        self.linear = nn.Linear(in_channels * prod(image_size), out_channels)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.linear(x.flatten(1))
        return found
