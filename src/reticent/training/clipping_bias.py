"""What clipping and noise do to the gradient on records declared public: the estimator's bias and its signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reticent.training.engine import LossFn, clipped_grad
from reticent.training.real_coordinates import real_coordinates

_UNCLIPPED = 1e12


@dataclass(frozen=True)
class ClippingBias:
    r"""Bias of the private gradient over N units, :math:`b = -\frac1N \sum_u g_u (1 - C / \|g_u\|)_+`."""

    units: int
    bias: float
    """Norm of b."""
    bound: float
    r"""Mean excess :math:`\frac1N \sum_u (\|g_u\| - C)_+`, at least the bias (Knolle et al. 2023)."""
    relative: float
    """The bias over the norm of the mean gradient."""
    cosine: float
    """Between the mean of the clipped gradients and the mean gradient."""
    clipped: float
    """Share of units whose gradient is longer than C."""
    mean_norm: float
    signal: dict[str, float]
    """Signal to noise of a step for each parameter and, under "", for all: norm of the mean clipped gradient over that
    of the noise, sqrt(d) sigma C / batch size; d counts real coordinates."""


def clipping_bias(
    model: nn.Module,
    loss_fn: LossFn,
    batch: Any,
    *,
    max_norm: float,
    noise_multiplier: float,
    batch_size: float,
    units: Tensor | None = None,
) -> ClippingBias:
    """Compare the clipped with the plain mean gradient of a batch.

    Nothing is noised: the batch must be public, or made up.

    Args:
        model: as for `clipped_grad`, with `loss_fn`, `batch`, `max_norm` and `units`.
        noise_multiplier: noise standard deviation over the clip norm.
        batch_size: expected units per step of the training in question.

    Raises:
        InputError: see `clipped_grad`.
    """
    clipped = clipped_grad(model, loss_fn, batch, max_norm=max_norm, units=units)
    plain = clipped_grad(model, loss_fn, batch, max_norm=_UNCLIPPED, units=units)
    count = clipped.n_units
    a, g = (
        torch.cat([real_coordinates(part).flatten() for part in found.sum.values()]) / count
        for found in (clipped, plain)
    )
    norms = clipped.norms.double()
    noise = noise_multiplier * max_norm / batch_size
    parts = {"": a, **{name: real_coordinates(part).flatten() / count for name, part in clipped.sum.items()}}
    return ClippingBias(
        units=count,
        bias=float((a - g).norm()),
        bound=float((norms - max_norm).clamp(min=0).mean()),
        relative=float((a - g).norm() / g.norm()),
        cosine=float(torch.nn.functional.cosine_similarity(a, g, dim=0)),
        clipped=float((norms > max_norm).double().mean()),
        mean_norm=float(norms.mean()),
        signal={name: float(part.norm() / (noise * part.numel() ** 0.5)) for name, part in parts.items()},
    )
