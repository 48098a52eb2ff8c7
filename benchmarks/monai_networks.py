"""MONAI's networks, small, in 2-D and 3-D, with a loss for each: shared by the tests and by `engine_networks.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import monai.networks.nets as nets
import torch
from monai.networks.nets.senet import SEResNetBottleneck
from torch import Tensor, nn

from reticent.models import to_private

HIGH_RES = (
    {"name": "conv_0", "n_features": 4, "kernel_size": 3},
    {"name": "res_1", "n_features": 4, "kernels": (3, 3), "repeat": 1},
    {"name": "res_2", "n_features": 8, "kernels": (3, 3), "repeat": 1},
    {"name": "conv_1", "n_features": 8, "kernel_size": 1},
    {"name": "conv_2", "kernel_size": 1},
)


def plain(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Outputs of the network; the first, if there are several."""
    y = model(batch["x"])
    return y[0] if isinstance(y, tuple | list) else y


def denoised(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Of a diffusion model, at one time step a record."""
    return model(batch["x"], batch["t"])


def encoded(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Reconstruction of an autoencoder, without drawing from its posterior."""
    mean, deviation = model.encode(batch["x"])
    return model.decode(mean + 0.1 * deviation)


def squared(outputs: Callable[..., Tensor], model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Mean squared distance from a ramp, one loss a record."""
    y = outputs(model, batch)
    ramp = torch.linspace(-1, 1, y[0].numel(), dtype=y.dtype).view(1, *y.shape[1:])
    return (y - ramp).square().flatten(1).mean(1)


def quantised(_: Any, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Reconstruction, codebook and commitment losses (van den Oord et al. 2017), one sum a record."""
    z = model.encode(batch["x"])
    e = model.quantizer.embed(model.quantizer.quantize(z))
    y = model.decode(z + (e - z).detach())
    parts = (y - batch["x"], e - z.detach(), 0.5 * (z - e.detach()))
    return torch.stack([part.square().flatten(1).mean(1) for part in parts]).sum(0)


@dataclass(frozen=True)
class Network:
    """`build(d)` in d dimensions, for records of `channels` and `side` voxels an axis (`axes`, where they differ)."""

    build: Callable[[int], nn.Module]
    side: int = 16
    outputs: Callable[..., Tensor] = plain
    loss: Callable[..., Tensor] = squared
    dtype: torch.dtype = torch.float64
    channels: int = 1
    axes: tuple[int, int, int] | None = None
    codebook: bool = False

    def model(self, d: int) -> nn.Module:
        """Converted for private training, in training mode, without what is random."""
        torch.manual_seed(0)
        model = to_private(self.build(d)).train().to(self.dtype)
        for module in model.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.p = 0.0
            if hasattr(module, "drop_connect_rate"):
                module.drop_connect_rate = 0.0
        if self.codebook:
            model.quantizer.quantizer.source.embedding.weight.requires_grad_(True)
        return model

    def batch(self, d: int, records: int) -> dict[str, Tensor]:
        """Made-up records and their time steps."""
        size = self.axes[:d] if self.axes else (self.side,) * d
        generator = torch.Generator().manual_seed(d)
        x = torch.randn(records, self.channels, *size, generator=generator, dtype=torch.float64)
        return {"x": x.to(self.dtype), "t": torch.arange(records)}

    def losses(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """One loss a record."""
        return self.loss(self.outputs, model, batch)


def _vqvae(d: int) -> nn.Module:
    return nets.VQVAE(
        d, 1, 1, channels=(4, 8), num_res_layers=1, num_res_channels=(4, 8),
        downsample_parameters=((2, 4, 1, 1),) * 2, upsample_parameters=((2, 4, 1, 1, 0),) * 2,
        num_embeddings=8, embedding_dim=4,
    )  # fmt: skip


SINGLE = torch.float32
NETWORKS = {
    "UNet": Network(lambda d: nets.UNet(d, 1, 2, (4, 8, 16), (2, 2), num_res_units=1)),
    "BasicUNet": Network(lambda d: nets.BasicUNet(d, 1, 2, (4, 4, 8, 8, 16, 4), norm=("group", {"num_groups": 2})), 16),
    "BasicUNetPlusPlus": Network(
        lambda d: nets.BasicUNetPlusPlus(d, 1, 2, (4, 4, 8, 8, 16, 4), norm=("group", {"num_groups": 2}))
    ),
    "AttentionUnet": Network(lambda d: nets.AttentionUnet(d, 1, 2, (4, 8, 16), (2, 2))),
    "DynUNet": Network(lambda d: nets.DynUNet(d, 1, 2, [3] * 3, [1, 2, 2], [2, 2], filters=[4, 8, 16])),
    "SegResNet": Network(lambda d: nets.SegResNet(d, 8, 1, 2, blocks_down=(1, 1), blocks_up=(1,))),
    "VNet": Network(lambda d: nets.VNet(d, 1, 2), dtype=SINGLE),
    "UNETR": Network(lambda d: nets.UNETR(1, 2, (16,) * d, 4, 24, 48, 3, spatial_dims=d)),
    "SwinUNETR": Network(
        lambda d: nets.SwinUNETR(1, 2, feature_size=12, spatial_dims=d, use_checkpoint=True),
        dtype=SINGLE, axes=(64, 32, 32),
    ),
    "HighResNet": Network(lambda d: nets.HighResNet(d, 1, 2, layer_params=HIGH_RES), 8),
    "MedNeXt": Network(
        lambda d: nets.MedNeXt(
            d, 8, 1, 2, encoder_expansion_ratio=2, decoder_expansion_ratio=2, bottleneck_expansion_ratio=2,
            blocks_down=(1, 1), blocks_up=(1, 1), blocks_bottleneck=1,
        )
    ),
    "DenseNet": Network(lambda d: nets.DenseNet(d, 1, 2, init_features=8, growth_rate=4, block_config=(2, 2))),
    "ResNet": Network(
        lambda d: nets.ResNet("basic", (1, 1, 1, 1), (4, 8, 8, 16), spatial_dims=d, n_input_channels=1, num_classes=2)
    ),
    "SENet": Network(
        lambda d: nets.SENet(d, 1, SEResNetBottleneck, (1, 1, 1, 1), 1, 4, num_classes=2, inplanes=16), dtype=SINGLE
    ),
    "EfficientNet": Network(
        lambda d: nets.EfficientNetBN(
            "efficientnet-b0", pretrained=False, spatial_dims=d, in_channels=1, num_classes=2
        ),
        32,
        dtype=SINGLE,
    ),
    "ViT": Network(
        lambda d: nets.ViT(1, (16,) * d, (8,) * d, 24, 48, 2, 3, classification=True, num_classes=2, spatial_dims=d)
    ),
    "AutoencoderKL": Network(
        lambda d: nets.AutoencoderKL(
            d, 1, 1, (1, 1), (4, 8), (False, True), latent_channels=2, norm_num_groups=4
        ),
        outputs=encoded,
    ),
    "DiffusionModelUNet": Network(
        lambda d: nets.DiffusionModelUNet(
            d, 1, 1, (1, 1), (4, 8), (False, True), norm_num_groups=4, num_head_channels=4
        ),
        outputs=denoised,
    ),
    "VQVAE": Network(_vqvae, dtype=SINGLE),
    "VQVAE, trained codebook": Network(_vqvae, loss=quantised, dtype=SINGLE, codebook=True),
    "Regressor": Network(lambda d: nets.Regressor((1, *(16,) * d), (2,), (4, 8), (2, 2))),
    "Generator": Network(lambda d: nets.Generator((4, *(4,) * d), (4, *(4,) * d), (4, 4), (2, 2)), 4, channels=4),
}  # fmt: skip
