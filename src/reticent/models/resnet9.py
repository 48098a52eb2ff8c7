"""ResNet-9 for private training: GroupNorm, Mish, and ScaleNorm after the additions (Klause et al. 2022)."""

from __future__ import annotations

from torch import Tensor, nn

from reticent.models.layers import CONV, MAX_POOL, MAX_TO_CELLS, group_norm


def _conv(ndim: int, in_channels: int, out_channels: int, groups: int, *, pool: bool = False) -> list[nn.Module]:
    conv = CONV[ndim](in_channels, out_channels, 3, padding=1, bias=False)
    return [conv, group_norm(groups, out_channels), nn.Mish(), *[MAX_POOL[ndim](2)] * pool]


class ResNet9(nn.Module):
    """Logits (n, out_channels) for images (n, C, H, W) or volumes (n, C, D, H, W).

    A residual block adds a branch of unit variance to its input, so that variance grows with every addition; ScaleNorm
    is one more GroupNorm behind the addition. `width` is the number of channels of the first layer. Sides of at least
    16, or of 128 with `large_input`, whose six poolings suit large images.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 2,
        width: int = 64,
        groups: int = 32,
        scale_norm: bool = True,
        large_input: bool = False,
    ) -> None:
        super().__init__()
        d, w, g = spatial_dims, width, groups

        def layers(*channels: int, pools: str) -> nn.Sequential:
            """Convolutions from each number of channels to the next, those marked "p" pooled."""
            pairs = zip(channels, channels[1:], pools, strict=False)
            return nn.Sequential(*(part for a, b, pool in pairs for part in _conv(d, a, b, g, pool=pool == "p")))

        if large_input:
            self.first = layers(in_channels, w, 2 * w, 2 * w, pools="ppp")
            self.middle = layers(2 * w, 2 * w, 4 * w, 4 * w, pools="ppp")
        else:
            self.first = layers(in_channels, w, 2 * w, pools="-p")
            self.middle = layers(2 * w, 4 * w, 4 * w, pools="pp")
        self.residual1 = layers(2 * w, 2 * w, 2 * w, pools="--")
        self.residual2 = layers(4 * w, 4 * w, 4 * w, pools="--")
        self.scale_norm1 = group_norm(g, 2 * w) if scale_norm else nn.Identity()
        self.scale_norm2 = group_norm(g, 4 * w) if scale_norm else nn.Identity()
        self.head = nn.Sequential(MAX_TO_CELLS[d](2), nn.Flatten(), nn.Linear(4 * w * 2**d, out_channels))

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        x = self.scale_norm1(x + self.residual1(x))
        x = self.middle(x)
        return self.head(self.scale_norm2(x + self.residual2(x)))
