"""Features of a frozen public encoder, few and bounded, and the classifier that has a linear head on them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Self

import torch
from torch import Tensor, nn

from reticent.errors import InputError
from reticent.training.private_activation import Mode, bound_records, require_bound

DIMENSION = 32
"""Features after the projection. The noise grows with the square root of their number."""
_PROJECTION_SEED = 0


class FrozenFeatures(nn.Module):
    r"""Bounded features P h(x) of L2 norm at most `bound`, shape (n, dimension), of a frozen encoder h.

    P is a fixed random matrix, the same in every process: entries N(0, 1 / dimension), which keeps norms on average
    (Johnson and Lindenstrauss, 1984); the identity if h has no more than `dimension` features. The encoder stays in
    evaluation mode whatever `train` says, and nothing here requires gradients.

    Args:
        encoder: h, with public weights: records (n, ...) to (n, ...) of `width` values each.
        width: how many values h gives for a record.
        dimension: how many are left.
        bound: C. With "normalise" it only sets a scale; with "clip" it is to come from public data.
        mode: how features are bounded, see `bound_records`.

    Raises:
        InputError: bound or dimension are not positive, or the mode is unknown; in a forward pass, the encoder gives
            another number of values.
    """

    projection: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        dimension: int = DIMENSION,
        bound: float = 1.0,
        mode: Mode = "normalise",
    ) -> None:
        super().__init__()
        require_bound(bound, mode)
        if dimension < 1:
            raise InputError(f"dimension is {dimension}; give a positive number of features")
        self.encoder, self.width, self.bound, self.mode = encoder, width, bound, mode
        self.register_buffer("projection", random_projection(width, dimension))
        self.requires_grad_(False)
        self.train(False)

    @property
    def dimension(self) -> int:
        """Features of a record."""
        return len(self.projection)

    def train(self, mode: bool = True) -> Self:
        """Evaluation mode, always: frozen statistics, no dropout."""
        return super().train(False)

    def forward(self, inputs: Any) -> Tensor:
        found = self.encoder(inputs)
        flat = (found[0] if isinstance(found, tuple) else found).flatten(1)
        if flat.shape[1] != self.width:
            raise InputError(
                f"{type(self.encoder).__name__} gives {flat.shape[1]} features for a record, not {self.width}: its "
                "last Linear layer is not its head; choose a network that ends in one"
            )
        return bound_records(flat @ self.projection.T, self.bound, self.mode)


def random_projection(width: int, dimension: int) -> Tensor:
    """The public matrix P of `FrozenFeatures`, shape (min(dimension, width), width)."""
    if width <= dimension:
        return torch.eye(width)
    generator = torch.Generator().manual_seed(_PROJECTION_SEED)
    return torch.randn(dimension, width, generator=generator) / dimension**0.5


def feature_classifier(network: nn.Module, dimension: int, bound: float) -> nn.Sequential:
    """`features` (everything before the network's last Linear layer, frozen, projected, normalised) and a new `head`.

    The head starts at zero: its loss is convex, and no start is better than another.

    Raises:
        InputError: the network has no Linear layer.
    """
    heads = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not heads:
        raise InputError(
            f"{type(network).__name__} has no Linear layer that could be its head; private activations need a "
            "classifier that ends in one"
        )
    last = network.get_submodule(heads[-1])
    assert isinstance(last, nn.Linear)
    if heads[-1]:
        network.set_submodule(heads[-1], nn.Identity())
    else:
        network = nn.Identity()
    features = FrozenFeatures(network, last.in_features, dimension, bound)
    head = nn.Linear(features.dimension, last.out_features)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return nn.Sequential(OrderedDict(features=features, head=head))
