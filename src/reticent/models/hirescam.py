"""Where a convolutional classifier looked: HiResCAM, to compare other explanations with."""

from __future__ import annotations

from contextlib import ExitStack

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
    calls: list[tuple[nn.Module, Tensor]] = []
    with ExitStack() as hooks, torch.enable_grad():
        for module in model.modules():
            if isinstance(module, _ConvNd):
                hook = module.register_forward_hook(lambda layer, _, output: calls.append((layer, output)))
                hooks.callback(hook.remove)
        logit = model(image.requires_grad_())[:, target].sum()
        if not calls:
            raise InputError(f"{type(model).__name__} has no convolution whose outputs could be mapped")
        outputs = [output for layer, output in calls if layer is calls[-1][0]]
        gradients = torch.autograd.grad(logit, outputs)
    return [(gradient * output).sum(1).detach() for gradient, output in zip(gradients, outputs, strict=True)]
