"""A small denoising-diffusion prior, trained on public images with MONAI's network."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from reticent.attacks.reconstruction.priors.diffusion_training import BATCH, DiffusionTraining, predicted_by
from reticent.attacks.reconstruction.priors.prior import Mode, require_images, shaped
from reticent.attacks.reconstruction.priors.schedule import denoised, signal_shares
from reticent.errors import InputError
from reticent.records import write_file

_FORMAT = "reticent.diffusion-prior/1"
_GROUPS = 8
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
        checkpoint: Path | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> DiffusionPrior:
        """Train on images (n, C, ...) in [0, 1]: Adam with one cycle of its rate, and an average of the weights.

        `checkpoint`: where the training is kept while it lasts; the same call goes on from there.

        Raises:
            InputError: there are fewer than 32 images, or not in [0, 1]; channels are no multiples of 8.
        """
        require_images(images, BATCH)
        if any(width % _GROUPS for width in channels):
            raise InputError(f"channels are {channels}; give multiples of {_GROUPS}")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = _network(images.shape[1:], channels)
        training = DiffusionTraining(network, iterations, seed, checkpoint)
        network.load_state_dict(training.average_after(2 * images.float() - 1, progress))
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
        predicted = torch.cat([predicted_by(self.network, part, levels) for part, levels in parts])
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
