"""Activations of complex numbers; each is finite and has a finite gradient at 0."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_TINY = 1e-12


class SeparableMish(nn.Module):
    """Complex (n, *) to the same: Mish(Re z) + i Mish(Im z), Mish(x) = x tanh(softplus x)."""

    def forward(self, z: Tensor) -> Tensor:
        parts = torch.view_as_real(z.resolve_conj())
        return torch.view_as_complex(
            F.mish(parts)
        )  # of z.real and z.imag, not contiguous, it takes several times as long


class ConjMish(SeparableMish):
    """Complex (n, *) to the same: (1 + i) Mish(Re z) - (1 - i) Mish(Im z) (Riess et al. 2024).

    Its real part is Mish(Re z) - Mish(Im z), its imaginary part Mish(Re z) + Mish(Im z): 1 + i times the separable one.
    """

    def forward(self, z: Tensor) -> Tensor:
        return (1 + 1j) * super().forward(z)


class Cardioid(nn.Module):
    """Complex (n, *) to the same: z (1 + cos arg z) / 2, the ReLU of real numbers (Virtue et al. 2017)."""

    def forward(self, z: Tensor) -> Tensor:
        cosine = z.real / z.abs().clamp(min=_TINY)
        return z * ((1 + cosine) / 2)


class IGaussian(nn.Module):
    """Complex (n, *) to the same: (1 - exp(-|z|^2 / 2 s^2)) z / |z|, which keeps the phase (Virtue et al. 2017)."""

    def __init__(self, scale: float = 0.4) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, z: Tensor) -> Tensor:
        size = z.abs()
        gain = -torch.expm1(-(size**2) / (2 * self.scale**2)) / size.clamp(min=_TINY)
        return z * gain

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


class LogMagnitude(nn.Module):
    """Complex (n, *) to the same: log(1 + |z|) z / |z|, for k-space, whose centre outshines the rest a hundredfold."""

    def forward(self, z: Tensor) -> Tensor:
        size = z.abs()
        return z * (torch.log1p(size) / size.clamp(min=_TINY))
