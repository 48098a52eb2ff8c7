"""A small denoising-diffusion prior, trained on public images with MONAI's network."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from reticent.attacks.reconstruction.priors.prior import Mode, require_images, shaped
from reticent.attacks.reconstruction.priors.schedule import LEVELS, denoised, signal_shares
from reticent.errors import InputError
from reticent.records import write_file

_FORMAT = "reticent.diffusion-prior/1"
_GROUPS = 8
_BATCH, _RATE = 32, 2e-3
_AT_ONCE = 256


@dataclass(frozen=True)
class DiffusionPrior:
    """Network that predicts v = sqrt(a) noise - sqrt(1 - a) image (Salimans and Ho 2022), at 1000 levels.

    A sharp image from it may be invented: only what goes beyond `mean`, and re-identification, is evidence of a leak.
    """

    network: nn.Module
    mean: Tensor
    """(C, ...), in [0, 1]."""
    channels: tuple[int, ...]
    source: str

    @classmethod
    def fit(
        cls,
        images: Tensor,
        source: str = "",
        *,
        iterations: int = 2500,
        channels: tuple[int, ...] = (16, 32, 64),
        seed: int = 0,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> DiffusionPrior:
        """Train on images (n, C, ...) in [0, 1]: Adam with one cycle of its rate, and an average of the weights.

        Raises:
            InputError: there are fewer than 32 images, or not in [0, 1]; channels are no multiples of 8.
        """
        require_images(images, _BATCH)
        if any(width % _GROUPS for width in channels):
            raise InputError(f"channels are {channels}; give multiples of {_GROUPS}")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = _network(images.shape[1:], channels)
            average = _train(network, 2 * images.float() - 1, iterations, progress)
        network.load_state_dict(average)
        return cls(network.eval(), images.double().mean(0), channels, source)

    def denoise(
        self,
        seen: Tensor,
        noise_std: Tensor,
        mode: Mode = "mean",
        *,
        steps: int = 50,
        seed: int = 0,
    ) -> Tensor:
        """See `Prior`; also one sharp image ("ddim") or a draw ("sample"), in `steps` levels."""
        generator = torch.Generator().manual_seed(seed)
        found = denoised(2 * seen.float() - 1, 2 * noise_std, self._clean, mode, steps, generator)
        return ((found + 1) / 2).to(seen)

    def knows_nothing(self, noise_std: Tensor) -> Tensor:
        """Whether there is more noise than the last level has, so that the answer is the prior's alone: (n,)."""
        last = signal_shares()[-1]
        return 2 * noise_std > ((1 - last) / last).sqrt()

    @torch.no_grad()
    def _clean(self, x: Tensor, level: Tensor) -> Tensor:
        share = shaped(signal_shares()[level], x)
        parts = zip(x.split(_AT_ONCE), level.split(_AT_ONCE), strict=True)
        predicted = torch.cat([_predicted(self.network, part, levels) for part, levels in parts])
        return (share.sqrt() * x - (1 - share).sqrt() * predicted).clamp(-1, 1)

    def save(self, path: Path) -> None:
        """Write weights and description to one safetensors file."""
        about = {"format": _FORMAT, "channels": list(self.channels), "source": self.source}
        tensors = {**self.network.state_dict(), "mean image": self.mean}
        values = {name: value.contiguous() for name, value in tensors.items()}

        def write(aside: Path) -> None:
            aside.write_bytes(safetensors.torch.save(values, {"about": json.dumps(about)}))

        write_file(path, write)

    @classmethod
    def load(cls, path: Path) -> DiffusionPrior:
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing or is no such prior.
        """
        try:
            with safe_open(path, "pt") as file:
                about = json.loads((file.metadata() or {}).get("about", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path}: not a readable diffusion prior ({error})") from None
        if about.get("format") != _FORMAT:
            raise InputError(f"{path}: no diffusion prior of this version; train it anew")
        mean = tensors.pop("mean image")
        network = _network(mean.shape, tuple(about["channels"]))
        network.load_state_dict(tensors)
        return cls(network.eval(), mean, tuple(about["channels"]), about["source"])


def _network(shape: torch.Size, channels: tuple[int, ...]) -> nn.Module:
    from monai.networks.nets import DiffusionModelUNet

    return DiffusionModelUNet(
        spatial_dims=len(shape) - 1,
        in_channels=shape[0],
        out_channels=shape[0],
        num_res_blocks=1,
        channels=channels,
        attention_levels=(False,) * len(channels),
        norm_num_groups=_GROUPS,
        num_head_channels=channels[-1] // 2,
    )


def _predicted(network: nn.Module, x: Tensor, level: Tensor) -> Tensor:
    """The network's output, on sides padded to multiples of its smallest grid."""
    multiple = 2 ** (len(network.block_out_channels) - 1)  # type: ignore[arg-type]
    padding: list[int] = []
    for side in reversed(x.shape[2:]):
        padding += [0, -side % multiple]
    output = network(F.pad(x, padding, mode="replicate") if any(padding) else x, timesteps=level)
    return output[(..., *(slice(side) for side in x.shape[2:]))]


def _train(
    network: nn.Module, images: Tensor, iterations: int, progress: Callable[[int, int], None]
) -> dict[str, Tensor]:
    """Averaged weights after training on images in [-1, 1]."""
    network.train()
    optimiser = torch.optim.Adam(network.parameters(), lr=_RATE)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=_RATE, total_steps=iterations)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    shares = signal_shares().float()
    for step in range(iterations):
        clean = images[torch.randint(len(images), (_BATCH,))]
        level = torch.randint(LEVELS, (_BATCH,))
        share, noise = shaped(shares[level], clean), torch.randn_like(clean)
        noisy = share.sqrt() * clean + (1 - share).sqrt() * noise
        wanted = share.sqrt() * noise - (1 - share).sqrt() * clean
        optimiser.zero_grad()
        (_predicted(network, noisy, level) - wanted).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        rate.step()
        keep = min(0.999, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in network.state_dict().items():
                average[name].lerp_(value, 1 - keep)
        progress(step + 1, iterations)
    return average
