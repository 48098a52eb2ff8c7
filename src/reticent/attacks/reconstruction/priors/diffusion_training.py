"""Training of the diffusion prior's network, which may be interrupted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reticent.attacks.reconstruction.priors.prior import shaped
from reticent.attacks.reconstruction.priors.schedule import LEVELS, signal_shares
from reticent.records import write_file

BATCH = 32
_RATE = 2e-3
_KEPT_EVERY = 100


class DiffusionTraining:
    """Network, optimiser, average of the weights and random numbers of so many `iterations`.

    All of it is kept in `checkpoint` (if any) every 100 iterations, read from there, and removed at the end.
    """

    def __init__(self, network: nn.Module, iterations: int, seed: int, checkpoint: Path | None) -> None:
        self.network, self.iterations, self.checkpoint = network.train(), iterations, checkpoint
        self.optimiser = torch.optim.Adam(network.parameters(), lr=_RATE)
        self.rate = torch.optim.lr_scheduler.OneCycleLR(self.optimiser, max_lr=_RATE, total_steps=iterations)
        self.average = {name: value.clone() for name, value in network.state_dict().items()}
        self.generator, self.done = torch.Generator().manual_seed(seed), 0
        if checkpoint is not None and checkpoint.is_file():
            self._read(torch.load(checkpoint, weights_only=True))

    def average_after(self, images: Tensor, progress: Callable[[int, int], None]) -> dict[str, Tensor]:
        """Averaged weights after training on images (n, C, ...) in [-1, 1]."""
        shares = signal_shares().float()
        while self.done < self.iterations:
            self._step(images, shares)
            self.done += 1
            if self.checkpoint is not None and self.done % _KEPT_EVERY == 0:
                write_file(self.checkpoint, partial(torch.save, self._state()))
            progress(self.done, self.iterations)
        if self.checkpoint is not None:
            self.checkpoint.unlink(missing_ok=True)
        return self.average

    def _step(self, images: Tensor, shares: Tensor) -> None:
        clean = images[torch.randint(len(images), (BATCH,), generator=self.generator)]
        level = torch.randint(LEVELS, (BATCH,), generator=self.generator)
        share, noise = shaped(shares[level], clean), torch.randn(clean.shape, generator=self.generator)
        noisy = share.sqrt() * clean + (1 - share).sqrt() * noise
        wanted = share.sqrt() * noise - (1 - share).sqrt() * clean
        self.optimiser.zero_grad()
        (predicted_by(self.network, noisy, level) - wanted).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.rate.step()
        keep = min(0.999, (1 + self.done) / (10 + self.done))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self.average[name].lerp_(value, 1 - keep)

    def _state(self) -> dict[str, Any]:
        return {
            "done": self.done,
            "network": self.network.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "rate": self.rate.state_dict(),
            "generator": self.generator.get_state(),
        }

    def _read(self, state: dict[str, Any]) -> None:
        self.done = state["done"]
        self.average = state["average"]
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.rate.load_state_dict(state["rate"])
        self.generator.set_state(state["generator"])


def predicted_by(network: nn.Module, x: Tensor, level: Tensor) -> Tensor:
    """The network's output, on sides padded to multiples of its smallest grid."""
    multiple = 2 ** (len(network.block_out_channels) - 1)  # type: ignore[arg-type]
    padding: list[int] = []
    for side in reversed(x.shape[2:]):
        padding += [0, -side % multiple]
    output = network(F.pad(x, padding, mode="replicate") if any(padding) else x, timesteps=level)
    return output[(..., *(slice(side) for side in x.shape[2:]))]
