"""Which reconstruction belongs to which image, and whether it would give the image away in a gallery."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from reticent.attacks.reconstruction.scores import Metric, cost, pairwise
from reticent.errors import InputError


@dataclass(frozen=True)
class Matching:
    """For each target the reconstruction that was chosen for it, and their score."""

    index: Tensor
    """LongTensor (n,): row of the reconstructions; -1 where there were too few for one each."""
    scores: Tensor
    """Shape (n,); the worst possible value where there was none."""


def match_reconstructions(
    targets: Tensor,
    reconstructions: Tensor,
    metric: Metric = "MSE",
    *,
    one_to_one: bool = False,
    data_range: float = 1.0,
) -> Matching:
    """Choose for each target its best reconstruction; with `one_to_one` none twice, at the best total score.

    The best of many favours the attacker whoever is meant: a report compares it with the best of as many unrelated
    images. One to one is the assignment of Kuhn (1955).

    Raises:
        InputError: there are no reconstructions, or images of different shapes.
    """
    if not len(reconstructions) or reconstructions.shape[1:] != targets.shape[1:]:
        raise InputError(
            f"{len(reconstructions)} reconstructions of shape {tuple(reconstructions.shape[1:])} for targets of shape "
            f"{tuple(targets.shape[1:])}; give at least one of the same shape"
        )
    found = pairwise(metric, targets, reconstructions, data_range)
    costs = cost(metric, found)
    if not one_to_one:
        index = costs.argmin(1)
        return Matching(index, found.gather(1, index[:, None])[:, 0])
    rows, columns = linear_sum_assignment(costs.numpy())
    index = torch.full((len(targets),), -1)
    index[torch.from_numpy(rows)] = torch.from_numpy(columns)
    worst = torch.full(
        (len(targets),), float("inf") if metric == "MSE" else -1.0 if metric != "PSNR" else -float("inf")
    )
    scores = torch.where(index >= 0, found.gather(1, index.clamp_min(0)[:, None])[:, 0], worst.double())
    return Matching(index, scores)


def reidentified(
    reconstructions: Tensor,
    gallery: Tensor,
    target: Tensor,
    metric: Metric = "MSE",
    *,
    data_range: float = 1.0,
) -> Tensor:
    """Whether the gallery's image most like each reconstruction is its target: BoolTensor (n,).

    Args:
        gallery: images among which the attacker looks, targets included; by chance one in `len(gallery)` is found.
        target: LongTensor (n,), row of each reconstruction's target in the gallery. A tie with another image is a miss.
    """
    costs = cost(metric, pairwise(metric, reconstructions, gallery, data_range))
    own = costs.gather(1, target[:, None])
    others = costs.scatter(1, target[:, None], float("inf"))
    return own[:, 0] < others.min(1).values
