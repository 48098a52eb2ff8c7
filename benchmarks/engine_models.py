"""Networks of the engine's benchmark: those of the peers' papers in plain PyTorch, and two of MONAI's."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.nets import BasicUNet, SegResNet
from torch import Tensor, nn


def _conv(i: int, o: int, *, pool: bool = False) -> nn.Sequential:
    layers = [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.GroupNorm(min(32, o // 2), o), nn.Mish()]
    return nn.Sequential(*layers, *[nn.MaxPool2d(2)] * pool)


class ResNet9(nn.Module):
    """ResNet-9 with GroupNorm, Mish and ScaleNorm (Klause et al. 2022); 2.4 million parameters at width 64."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        w = width
        self.first = nn.Sequential(_conv(3, w), _conv(w, 2 * w, pool=True))
        self.second = nn.Sequential(_conv(2 * w, 2 * w), _conv(2 * w, 2 * w))
        self.third = nn.Sequential(_conv(2 * w, 4 * w, pool=True), _conv(4 * w, 4 * w, pool=True))
        self.fourth = nn.Sequential(_conv(4 * w, 4 * w), _conv(4 * w, 4 * w))
        self.norms = nn.ModuleList([nn.GroupNorm(min(32, w), 2 * w), nn.GroupNorm(min(32, w), 4 * w)])
        self.head = nn.Sequential(nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(16 * w, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.third(self.norms[0](x + self.second(x)))
        return self.head(self.norms[1](x + self.fourth(x)))


class _Wide(nn.Module):
    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(16, i), nn.GroupNorm(16, o)])
        self.convs = nn.ModuleList(
            [nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.Conv2d(o, o, 3, padding=1, bias=False)]
        )
        self.short = nn.Conv2d(i, o, 1, stride, bias=False) if i != o else None

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norms[0](x))
        short = x if self.short is None else self.short(h)
        return short + self.convs[1](F.relu(self.norms[1](self.convs[0](h))))


def wide_resnet(depth: int = 16, width: int = 4) -> nn.Module:
    """WRN-16-4 with GroupNorm(16) (De et al. 2022); 2.7 million parameters."""
    blocks, i = [], 16
    for stage, o in enumerate((16 * width, 32 * width, 64 * width)):
        for block in range((depth - 4) // 6):
            blocks.append(_Wide(i, o, 2 if stage and not block else 1))
            i = o
    ends = [nn.GroupNorm(16, i), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(i, 10)]
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), *blocks, *ends)


def cnn_3d() -> nn.Module:
    """Three blocks of Conv3d, GroupNorm(8), ReLU and pooling; 0.3 million parameters."""
    layers, i = [], 1
    for o in (32, 64, 128):
        layers += [nn.Conv3d(i, o, 3, padding=1, bias=False), nn.GroupNorm(8, o), nn.ReLU(), nn.MaxPool3d(2)]
        i = o
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(128, 2))


class _Block(nn.Module):
    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(d), nn.LayerNorm(d)])
        self.qkv, self.out, self.heads = nn.Linear(d, 3 * d), nn.Linear(d, d), heads
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = self.qkv(self.norms[0](x)).reshape(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d))
        return x + self.mlp(self.norms[1](x))


class SmallViT(nn.Module):
    """Vision transformer of width 192, 6 blocks, 64 patches and a class token; 2.7 million parameters."""

    def __init__(self, d: int = 192, blocks: int = 6) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, d, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, d))
        self.place = nn.Parameter(torch.randn(1, 65, d) * 0.02)
        self.blocks = nn.Sequential(*[_Block(d, 3) for _ in range(blocks)], nn.LayerNorm(d))
        self.head = nn.Linear(d, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.place
        return self.head(self.blocks(x)[:, 0])


_UNET = {"features": (16, 16, 32, 64, 128, 16), "norm": ("group", {"num_groups": 4})}
MODELS: dict[str, tuple[Any, tuple[int, ...], int, bool]] = {
    "ResNet-9": (ResNet9, (3, 32, 32), 10, False),
    "ResNet-9, half width": (lambda: ResNet9(32), (3, 32, 32), 10, False),
    "WRN-10-4": (lambda: wide_resnet(10), (3, 32, 32), 10, False),
    "WRN-16-4": (wide_resnet, (3, 32, 32), 10, False),
    "WRN-22-4": (lambda: wide_resnet(22), (3, 32, 32), 10, False),
    "ViT": (SmallViT, (3, 32, 32), 10, False),
    "3-D CNN": (cnn_3d, (1, 28, 28, 28), 2, False),
    "MONAI 3-D BasicUNet": (lambda: BasicUNet(3, 1, 2, **_UNET), (1, 32, 32, 32), 2, True),
    "MONAI 3-D SegResNet": (lambda: SegResNet(3, 8, 1, 2), (1, 32, 32, 32), 2, True),
}
"""Name to (network, shape of a record, classes, whether it segments)."""


def losses(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy of each record, averaged over its pixels."""
    found = F.cross_entropy(model(batch["x"]), batch["y"], reduction="none")
    return found.flatten(1).mean(1) if found.ndim > 1 else found


def make(name: str, size: int, device: str = "cpu") -> tuple[nn.Module, dict[str, Tensor]]:
    """A freshly initialised network and a random batch."""
    torch.manual_seed(0)
    build, shape, classes, segments = MODELS[name]
    labels = torch.randint(classes, (size, *shape[1:]) if segments else (size,))
    return build().to(device), {"x": torch.randn(size, *shape).to(device), "y": labels.to(device)}
