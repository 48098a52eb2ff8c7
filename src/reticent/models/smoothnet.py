"""SmoothNet: wide, shallow and dense, every part chosen for private training (Remerscheid et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reticent.models.layers import CONV, MAX_POOL, MEAN_POOL, TO_CELLS, group_norm

_GROUPS, _CELLS = 8, 4


def block(
    ndim: int, in_channels: int, out_channels: int, *, halve: bool = False, groups: int = _GROUPS
) -> nn.Sequential:
    """Conv 3 (no bias) -> max-pool 3 stride 1, or 2 stride 2 -> GroupNorm -> SELU."""
    pool = MAX_POOL[ndim](2) if halve else MAX_POOL[ndim](3, stride=1, padding=1)
    conv = CONV[ndim](in_channels, out_channels, 3, padding=1, bias=False)
    return nn.Sequential(conv, pool, group_norm(groups, out_channels), nn.SELU())


class SmoothNet(nn.Module):
    """Logits (n, out_channels) for images (n, C, H, W) or volumes (n, C, D, H, W), every side at least 4.

    Two stages of int(depth) blocks with int(8 width) and int(16 width) channels each. A block reads its stage's input
    and all blocks before it (`dense`), or the block before it alone; the head reads the last block. Width 8 and depth 5
    are the paper's SmoothNet W80D50, width 5 and depth 1 its W50D10.

    Weights start from Xavier's uniform law with the gain of SELU, as in the paper's private runs.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 2,
        width: float = 8.0,
        depth: float = 5.0,
        groups: int = _GROUPS,
        dense: bool = True,
    ) -> None:
        super().__init__()
        first, second, d = int(8 * width), int(16 * width), spatial_dims
        self.dense = dense
        self.first, joined = self._stage(d, in_channels, first, int(depth), groups)
        self.transition = nn.Sequential(CONV[d](joined, joined // 2, 1, bias=False), MEAN_POOL[d](2))
        self.second, _ = self._stage(d, joined // 2, second, int(depth), groups)
        self.pool = nn.Sequential(MEAN_POOL[d](2), TO_CELLS[d](_CELLS), nn.Flatten())
        self.head = nn.Sequential(
            nn.Linear(second * _CELLS**d, 256), nn.SELU(), nn.Linear(256, 128), nn.SELU(), nn.Linear(128, out_channels)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
                nn.init.xavier_uniform_(module.weight, nn.init.calculate_gain("selu"))

    def _stage(self, ndim: int, in_channels: int, growth: int, blocks: int, groups: int) -> tuple[nn.ModuleList, int]:
        """The blocks, and the channels that they leave."""
        inputs = [in_channels + i * growth if self.dense else (growth if i else in_channels) for i in range(blocks)]
        joined = inputs[-1] + growth if self.dense else growth
        return nn.ModuleList(block(ndim, channels, growth, groups=groups) for channels in inputs), joined

    def forward(self, image: Tensor) -> Tensor:
        x, _ = self._run(self.first, image)
        _, last = self._run(self.second, self.transition(x))
        return self.head(self.pool(last))

    def _run(self, stage: nn.ModuleList, x: Tensor) -> tuple[Tensor, Tensor]:
        """Everything that the stage leaves, and its last block alone."""
        last = x
        for dense in stage:
            last = dense(x)
            x = torch.cat([x, last], 1) if self.dense else last
        return x, last
