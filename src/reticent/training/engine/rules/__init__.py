"""One file for each kind of layer: what its units contribute to the sum. A new layer is a new file and a line here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from reticent.training.engine.call import Call, Inputs
from reticent.training.engine.rules import (
    attention,
    cat,
    convolution,
    embedding,
    group_norm,
    layer_norm,
    linear,
    prelu,
    recurrent,
)

Rule = Callable[[Inputs], "tuple[Tensor, Call] | None"]

RULES: dict[Callable[..., Any], Rule] = {
    F.linear: linear.linear,
    torch.group_norm: group_norm.group_norm,
    torch.instance_norm: group_norm.instance_norm,
    torch.layer_norm: layer_norm.layer_norm,
    torch.embedding: embedding.embedding,
    torch.embedding_renorm_: embedding.refuse_renormalisation,
} | {
    function: partial(convolution.transposed_convolution if transposed else convolution.convolution, ndim)
    for function, (ndim, transposed) in convolution.FUNCTIONS.items()
}
"""Library function to the rule that takes its place, if the arguments suit the rule."""

COMPOSITIONS: dict[Callable[..., Any], Callable[..., Any]] = (
    {function: partial(recurrent.network, step) for function, step in recurrent.NETWORKS.items()}
    | {function: partial(recurrent.cell, step) for function, step in recurrent.CELLS.items()}
    | {torch.prelu: prelu.prelu}
)
"""Library function to the same made of functions that have rules."""

OF_DATA: dict[Callable[..., Any], Callable[..., Any]] = {
    F.scaled_dot_product_attention: attention.attention,
    torch.cat: cat.cat,
}
"""Library function without weights to the same on all records at once, where `vmap` has no good way of its own."""
