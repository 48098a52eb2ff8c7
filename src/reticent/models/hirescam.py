"""Where a convolutional classifier looked: HiResCAM, to compare other explanations with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from reticent.errors import InputError


def hirescam(model: nn.Module, image: Tensor, target: int) -> list[Tensor]:
    r"""Maps of the last convolution that is called, (m, *S') for its outputs A of shape (m, channels, *S').

    .. math:: \sum_c \frac{\partial y}{\partial A_c} \odot A_c

    for the logit y of class `target`, not Grad-CAM's averaged gradient (Draelos and Carin, arXiv 2011.08891). The
    gradient is the whole one, also through attention. A map for each call of that layer: a `SliceClassifier` calls its
    encoder once for each axis, with the slices as rows.

    Raises:
        InputError: the network has no convolution.
    """
    with convolution_calls(model) as calls:
        logit = model(image.requires_grad_())[:, target].sum()
    return hirescam_maps(logit, calls)


@contextmanager
def convolution_calls(model: nn.Module) -> Iterator[list[tuple[nn.Module, Tensor]]]:
    """Convolutions that are called meanwhile, with gradients on, and their outputs."""
    calls: list[tuple[nn.Module, Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda layer, _, output: calls.append((layer, output)))
        for module in model.modules()
        if isinstance(module, _ConvNd)
    ]
    try:
        with torch.enable_grad():
            yield calls
    finally:
        for hook in hooks:
            hook.remove()


def hirescam_maps(logit: Tensor, calls: Sequence[tuple[nn.Module, Tensor]]) -> list[Tensor]:
    """See `hirescam`: of a logit for which these calls were made."""
    if not calls:
        raise InputError("the network has no convolution whose outputs could be mapped")
    outputs = [output for layer, output in calls if layer is calls[-1][0]]
    gradients = torch.autograd.grad(logit, outputs)
    return [(gradient * output).sum(1).detach() for gradient, output in zip(gradients, outputs, strict=True)]
