"""What an attacker knows of images before looking: a denoiser for an image seen under Gaussian noise."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

from reticent.errors import InputError

Mode = Literal["mean", "ddim", "sample"]
"""Least squared error; one sharp image, without chance; or drawn at random."""


class Prior(Protocol):
    """Fitted on images (n, C, ...) in [0, 1]."""

    @property
    def source(self) -> str:
        """Where those images come from, for the record."""

    @property
    def mean(self) -> Tensor:
        """The answer of an attacker who saw nothing: the mean image (C, ...)."""

    def denoise(self, seen: Tensor, noise_std: Tensor) -> Tensor:
        """The image of least expected squared error for each seen one (n, C, ...).

        `noise_std`: of each image, (n,), on every pixel, in units of [0, 1].
        """


def shaped(values: Tensor, like: Tensor) -> Tensor:
    """One number of each image (n,) in a shape that multiplies images (n, C, ...)."""
    return values.to(like).reshape(-1, *[1] * (like.ndim - 1))


def require_images(images: Tensor, least: int) -> None:
    """Raises InputError for fewer images than a prior needs, or for intensities outside [0, 1]."""
    if len(images) < least:
        raise InputError(f"{len(images)} public images for a prior; give at least {least}")
    if not (torch.isfinite(images).all() and images.min() >= -1e-6 and images.max() <= 1 + 1e-6):
        raise InputError("a prior is fitted on images in [0, 1]; rescale them")
