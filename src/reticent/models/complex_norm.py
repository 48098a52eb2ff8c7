"""GroupNorm of complex maps: real and imaginary part whitened together (Riess et al. 2024)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from reticent.errors import InputError


class ComplexGroupNorm(nn.Module):
    r"""Complex (n, C, *S) to the same, with mean 0 and uncorrelated parts of variance 1 in each group of channels.

    With (u, v) real and imaginary part less their means over the group and S, a and b their variances plus `eps` and c
    their covariance, the inverse square root of the 2 x 2 covariance in closed form is

    .. math:: \frac{1}{st} \begin{pmatrix} b + s & -c \\ -c & a + s \end{pmatrix}, \qquad
              s = \sqrt{ab - c^2}, \quad t = \sqrt{a + b + 2s}.

    Then a channel's real 2 x 2 matrix `weight` (C, 2, 2), first diag(1, 1) / sqrt(2), and complex `bias` (C,). Each
    record has statistics of its own.

    Raises:
        InputError: the groups do not divide the channels.
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        if num_channels % num_groups:
            raise InputError(f"{num_groups} groups do not divide {num_channels} channels; choose a divisor")
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.weight = nn.Parameter(torch.eye(2).repeat(num_channels, 1, 1) / math.sqrt(2))
        self.bias = nn.Parameter(torch.zeros(num_channels, dtype=torch.complex64))

    def forward(self, z: Tensor) -> Tensor:
        white = self._whitened(z.reshape(len(z), self.num_groups, -1)).reshape(z.shape)
        u, v, each = white.real, white.imag, (-1, *[1] * (z.ndim - 2))
        uu, uv, vu, vv = (entry.reshape(each) for entry in self.weight.flatten(1).unbind(1))
        return torch.complex(uu * u + uv * v, vu * u + vv * v) + self.bias.reshape(each)

    def _whitened(self, z: Tensor) -> Tensor:
        z = z - z.mean(2, keepdim=True)
        u, v, eps = z.real, z.imag, self.eps
        a, b, c = ((x * y).mean(2, keepdim=True) for x, y in ((u, u), (v, v), (u, v)))
        # (a + eps)(b + eps) - c^2, whose first part rounding could make negative where u and v are proportional
        s = ((a * b - c * c).clamp(min=0) + eps * (a + b + eps)).sqrt()
        t = (a + b + 2 * eps + 2 * s).sqrt()
        return torch.complex((b + eps + s) * u - c * v, (a + eps + s) * v - c * u) / (s * t)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}"
