"""A malicious fully connected layer that a server puts in front of a network, or in its place."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from reticent.errors import InputError

_MARGIN = 2.0
_FAINT = 0.1


class Implant(nn.Module):
    """The sum of gain * relu(W x + b) over neurons, added to the image x, or the first logit.

    As nothing behind the sum tells neurons apart, the gradients of an active neuron's row of W and of its bias are s x
    and s, with a factor s of the image's own.

    The gain is such that nearly every public image's gradient is longer than `norm`; clipping, which is divided out,
    then costs no signal. W and b are made small enough that the sum is faint, on which no gradient depends: neither
    does the loss saturate nor is the image changed visibly.

    Args:
        weight: (neurons, pixels), acts on the flattened image; bias: (neurons,).
        public: images (n, C, ...), in the units that the network is fed.
        norm: the clipping norm.
        inner: the network that gets the image with the sum added to all its pixels; None: the sum is the first of
            `outputs` logits and the others are 0, so that clipping is shared with no other parameter.
        cells: of maps of outputs, which are then the same in all of them; none: the outputs are numbers.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        public: Tensor,
        norm: float = 1.0,
        *,
        inner: nn.Module | None = None,
        outputs: int = 2,
        cells: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.inner, self.shape, self.outputs, self.cells = inner, tuple(public.shape[1:]), outputs, cells
        flat = flat_public(public)
        heights = (flat @ weight.double().T + bias.double()).clamp_min(0)
        lengths = ((heights > 0).sum(1) * (flat.square().sum(1) + 1)).sqrt()
        reached = torch.quantile(lengths[lengths > 0], 0.05) / outputs if (lengths > 0).any() else torch.tensor(1.0)
        self.gain = _MARGIN * norm / float(reached)
        faint = min(1.0, _FAINT / max(self.gain * float(heights.sum(1).max()), 1e-12))
        self.layer = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            self.layer.weight.copy_(faint * weight)
            self.layer.bias.copy_(faint * bias)

    def forward(self, image: Tensor) -> Tensor:
        added = self.gain * self.layer(image.flatten(1)).relu().sum(1)
        if self.inner is not None:
            return self.inner(image + added.reshape(-1, *[1] * len(self.shape)))
        logits = torch.nn.functional.pad(added[:, None], (0, self.outputs - 1))
        return logits.reshape(*logits.shape, *[1] * len(self.cells)).expand(-1, -1, *self.cells)

    def images(self, weights: Tensor, biases: Tensor) -> Tensor:
        """The candidates weights / biases as images (n, C, ...), without those whose divisor is 0."""
        found = biases != 0
        return (weights[found] / biases[found, None]).reshape(-1, *self.shape)


def layer_gradient(gradient: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Of an implant's weight (neurons, pixels) and bias (neurons,)."""
    return gradient["layer.weight"], gradient["layer.bias"]


def flat_public(public: Tensor) -> Tensor:
    """Public images (n, C, ...) as rows, float64.

    Raises:
        InputError: there are none.
    """
    if not len(public):
        raise InputError("no public images; the attack tunes its layer to at least one")
    return public.double().flatten(1)
