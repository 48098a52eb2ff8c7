"""Images to k-space and back: the centred, orthonormal Fourier transform."""

from __future__ import annotations

import torch
from torch import Tensor


def kspace(image: Tensor) -> Tensor:
    r"""The k-space (n, C, *S), complex, of images (n, C, *S), real or complex.

    :math:`k = \mathrm{fftshift}(F\, \mathrm{ifftshift}(x))` over the axes S with F unitary, so that the norm stays and
    the zero frequency is at index s // 2 of each axis.
    """
    axes = tuple(range(2, image.ndim))
    return torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(image, axes), dim=axes, norm="ortho"), axes)


def ikspace(k: Tensor) -> Tensor:
    """The complex images (n, C, *S) of a k-space (n, C, *S): the inverse of `kspace`."""
    axes = tuple(range(2, k.ndim))
    return torch.fft.fftshift(torch.fft.ifftn(torch.fft.ifftshift(k, axes), dim=axes, norm="ortho"), axes)
