"""What a server sees of a batch: the clipped sum of gradients with its noise, made as private training makes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from reticent.errors import InputError
from reticent.training import clipped_grad, strategy
from reticent.training.engine import LossFn
from reticent.training.noise import RandomSource, SystemSource, gaussian_noise

_UNCLIPPED = 1e30


@dataclass(frozen=True)
class Defence:
    """Clipping and noise of a step. `max_norm` None: neither, the gradients are summed as they are.

    Raises:
        InputError: noise without a norm that bounds what it covers.
    """

    max_norm: float | None = None
    noise_multiplier: float = 0.0

    def __post_init__(self) -> None:
        if self.noise_multiplier and self.max_norm is None:
            raise InputError(f"noise_multiplier is {self.noise_multiplier:g} without max_norm; give both")

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise on every coordinate of the sum."""
        return self.noise_multiplier * (self.max_norm or 0.0)


NO_DEFENCE = Defence()


def observed_gradient(
    model: nn.Module,
    loss_fn: LossFn,
    batch: Any,
    defence: Defence,
    source: RandomSource | None = None,
    *,
    units: Tensor | None = None,
) -> dict[str, Tensor]:
    """The sum that a step releases, float64 by parameter: `clipped_grad` plus `gaussian_noise`, as in `Step.privatise`.

    There it is divided by the expected batch size, a public constant that the server multiplies away.

    Args:
        source: of the noise; None: the operating system's.
        units: the patient of each record; None: each is one.
    """
    with strategy("rule"):  # trials of layers' ways would choose the order of sums
        clipped = clipped_grad(model, loss_fn, batch, max_norm=defence.max_norm or _UNCLIPPED, units=units)
    if not defence.noise_std:
        return clipped.sum
    drawn = source or SystemSource()
    return {name: total + gaussian_noise(total, defence.noise_std, drawn) for name, total in clipped.sum.items()}
