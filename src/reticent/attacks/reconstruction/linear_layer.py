"""What the gradient of a fully connected layer gives away without a search."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from reticent.errors import InputError


def invert_linear(weight: Tensor, bias: Tensor, rows: Literal["all", "largest"] = "all") -> Tensor:
    """The input of one record of a layer h = Wx + b from its gradients dL/dW = d x^T and dL/db = d.

    "largest" divides one row, x = G_i / d_i with the largest |d_i| (Phong et al. 2017); "all" is the least-squares
    solution x = G^T d / ||d||^2, in which the noise of the rows averages out.

    Args:
        weight: (out_features, in_features); bias: (out_features,).

    Raises:
        InputError: the bias has no gradient.
    """
    if not bias.abs().max() > 0:
        raise InputError("the layer's bias has no gradient, so that its input cannot be divided out; use another layer")
    if rows == "largest":
        row = int(bias.abs().argmax())
        return weight[row] / bias[row]
    return weight.T @ bias / bias.square().sum()


def label_of_one(bias: Tensor) -> int:
    """The label of one record from the gradient of the last bias, p - onehot: its only negative entry (iDLG)."""
    return int(bias.argmin())


def label_counts(bias: Tensor, records: int, mean_probabilities: Tensor | None = None) -> Tensor:
    """How often each label occurs in a batch of `records`, from the unclipped sum over them of p - onehot.

    The counts are `records` times the mean probabilities less the gradient, rounded to whole numbers of that sum by
    largest remainders. The server knows its model: it takes the mean probabilities over public images.

    Args:
        bias: (classes,), summed over the batch.
        mean_probabilities: (classes,); None: equal ones, as of a network before training.
    """
    classes = len(bias)
    share = torch.full_like(bias, 1 / classes) if mean_probabilities is None else mean_probabilities.to(bias)
    wanted = (records * share - bias).clamp_min(0)
    wanted = wanted * (records / wanted.sum().clamp_min(1e-12))
    counts = wanted.floor()
    missing = records - int(counts.sum())
    counts[(wanted - counts).argsort(descending=True)[:missing]] += 1
    return counts.long()
