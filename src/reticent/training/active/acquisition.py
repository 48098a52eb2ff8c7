"""Acquisition functions: how much a record's label is expected to teach, from the model's class probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reticent.errors import InputError

STRATEGIES = ("random", "entropy", "least-confidence", "margin", "bald", "core-set")
ENTROPY_CLAMP = 0.8
"""Largest entropy that counts: the less the range, the less noise; records beyond it are all uncertain."""
BALD_PASSES = 20


@dataclass(frozen=True)
class Acquisition:
    """A score in [0, value_range] of each record, from its own class probabilities and the model alone."""

    score: Callable[[Tensor], Tensor]
    """Probabilities (n, classes), or (passes, n, classes) for several passes, to scores (n,) in float64."""
    value_range: float
    largest: bool
    """Whether the records with the largest scores are the ones to label, or those with the smallest."""
    passes: int = 1
    """Forward passes with dropout that are stacked; 1 is a single one without."""


def acquisition(strategy: str, classes: int, *, multi_label: bool = False) -> Acquisition:
    r"""The acquisition function of a strategy for `classes` outputs.

    With p the softmax probabilities over K classes, in descending order p_1, p_2, ...; for several labels p_k is the
    probability of each label, h(p) = -p log2 p - (1-p) log2 (1-p), and the mean runs over labels:

    | strategy | score | several labels | range | to label |
    |---|---|---|---|---|
    | entropy | -sum p ln p / ln K, at most 0.8 | mean h(p_k), at most 0.8 | 0.8 | largest |
    | least-confidence | p_1 - 1/K | min abs(p_k - 1/2) | 1 - 1/K; 1/2 | smallest |
    | margin | p_1 - p_2 | - | 1 | smallest |
    | bald | H(mean p) - mean H(p), over ln K, over passes | mean of the same with h | 1 | largest |

    The range is the sensitivity of a score: whatever the record is replaced by. (Settles, 2009; BALD: Houlsby et al.,
    2011, and Gal et al., 2017; clamp: Schwethelm et al., 2024.)

    Raises:
        InputError: the strategy is unknown, has no score of a record by itself, or is not defined for several labels;
            or there is one class.
    """
    if classes < 2 and not multi_label:
        raise InputError(f"{classes} class: a strategy needs at least two to be uncertain between")
    if strategy == "entropy":
        return Acquisition(
            lambda p: _entropy(p, multi_label).clamp(0.0, ENTROPY_CLAMP), value_range=ENTROPY_CLAMP, largest=True
        )
    if strategy == "least-confidence":
        if multi_label:
            return Acquisition(lambda p: (p.double() - 0.5).abs().amin(1), value_range=0.5, largest=False)
        return Acquisition(lambda p: p.double().amax(1) - 1 / classes, value_range=1 - 1 / classes, largest=False)
    if strategy == "margin":
        if multi_label:
            raise InputError("margin compares two classes, but several labels may hold at once; choose entropy")
        return Acquisition(_margin, value_range=1.0, largest=False)
    if strategy == "bald":
        return Acquisition(lambda p: _bald(p, multi_label), value_range=1.0, largest=True, passes=BALD_PASSES)
    if strategy in STRATEGIES:
        raise InputError(f"the strategy {strategy} has no score of single records")
    raise InputError(f"strategy {strategy!r} is not known; choose one of {', '.join(STRATEGIES)}")


def k_center(features: Tensor, labelled: Tensor, k: int) -> list[int]:
    """Core-set selection: greedily the k records of the pool that lie farthest from all that are chosen or labelled.

    For *public* pools and labelled sets alone: every distance depends on the features of other records, so that one
    patient moves them all, by an amount that nothing bounds; no noise makes this private.

    Args:
        features: of the pool, (n, d).
        labelled: features of the records with labels, (m, d); m may be 0, and the first record is then the first one.

    Returns:
        Indices into the pool, in the order of choice (Sener and Savarese, 2018, Algorithm 1).

    Raises:
        InputError: k is not between 1 and n.
    """
    if not 1 <= k <= len(features):
        raise InputError(f"{k} records to choose out of {len(features)}; choose between 1 and as many as there are")
    distance = torch.full((len(features),), math.inf, dtype=features.dtype)
    if len(labelled):
        distance = torch.cdist(features, labelled).amin(1)
    chosen: list[int] = []
    for _ in range(k):
        distance[chosen] = -1.0
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, torch.cdist(features, features[chosen[-1:]])[:, 0])
    return chosen


def _entropy(probabilities: Tensor, multi_label: bool) -> Tensor:
    """Normalised to [0, 1], over the last axis."""
    p = probabilities.double()
    if multi_label:
        return ((torch.special.entr(p) + torch.special.entr(1 - p)) / math.log(2)).mean(-1)
    return torch.special.entr(p).sum(-1) / math.log(p.shape[-1])


def _margin(probabilities: Tensor) -> Tensor:
    top = probabilities.double().topk(2, dim=1).values
    return top[:, 0] - top[:, 1]


def _bald(probabilities: Tensor, multi_label: bool) -> Tensor:
    p = probabilities.double()
    return (_entropy(p.mean(0), multi_label) - _entropy(p, multi_label).mean(0)).clamp(0.0, 1.0)
