"""The identification game of reconstruction robustness: which of several known images took part in a run?

Balle et al. (2022) and Kaissis et al. (2023, arXiv 2307.03928): an attacker who guesses right with probability 1/n
before the run does so with probability at most gamma(1/n) = 1 - f(1/n) after it, f its trade-off function.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from reticent.attacks.reconstruction.implant import Implant, flat_public
from reticent.attacks.reconstruction.observed import Defence, observed_gradient
from reticent.errors import InputError
from reticent.training.engine import LossFn
from reticent.training.noise import RandomSource, bernoulli, gaussian_noise

_AT_ONCE = 2_000_000


def fingerprints(candidates: Tensor, norm: float, **network: Any) -> Implant:
    """A layer with one neuron for each candidate (n, C, ...), active on that one alone: their gradients are orthogonal.

    Its weights solve W x_i + b = 2 e_i - 1 (least norm).

    Args:
        norm, network: see `Implant`.

    Raises:
        InputError: candidates are not linearly independent with a constant: equal images, or more than pixels.
    """
    flat = flat_public(candidates)
    extended = torch.cat([flat, torch.ones(len(flat), 1, dtype=torch.float64)], 1)
    wanted = 2 * torch.eye(len(flat), dtype=torch.float64) - 1
    solved = torch.linalg.lstsq(extended, wanted, driver="gelsd").solution.T
    if (extended @ solved.T - wanted).abs().max() > 0.5:
        raise InputError("candidates cannot be told apart by one layer: leave out equal ones, or give fewer")
    return Implant(solved[:, :-1], solved[:, -1], candidates, norm, **network)


def candidate_gradients(model: torch.nn.Module, loss_fn: LossFn, batches: list[Any], max_norm: float) -> Tensor:
    """The clipped gradient of each batch of one patient by the product's own engine, (n, parameters)."""
    defence = Defence(max_norm)
    found = [observed_gradient(model, loss_fn, batch, defence) for batch in batches]
    return torch.stack([torch.cat([g.flatten() for g in gradient.values()]) for gradient in found])


def play_identification(
    gradients: Tensor, noise_std: float, sampling_rate: float, steps: int, trials: int, source: RandomSource
) -> Tensor:
    """Whether the attacker names the right candidate, BoolTensor (trials,); each is the target equally often.

    In every step the target takes part with probability q, unseen; the attacker sees all noisy sums y_t, in a basis of
    the gradients' span, and names the candidate of the greatest likelihood,
    sum_t log(1 - q + q exp((<g_i, y_t> - ||g_i||^2 / 2) / s^2)).

    Args:
        gradients: of the candidates, clipped, (n, parameters).
        noise_std: s, of every coordinate of a sum.
    """
    own = torch.linalg.qr(gradients.double().T, mode="r").R.T  # the noise is the same in every orthonormal basis
    count, width = own.shape
    targets = torch.arange(trials) % count
    hits = []
    for group in targets.split(max(1, _AT_ONCE // (steps * width))):
        joined = torch.from_numpy(bernoulli(sampling_rate, len(group) * steps, source)).reshape(len(group), steps, 1)
        sums = joined * own[group][:, None]
        if noise_std:
            sums = sums + gaussian_noise(sums, noise_std, source)
        hits.append(_most_likely(sums, own, noise_std, sampling_rate) == group)
    return torch.cat(hits)


def _most_likely(sums: Tensor, own: Tensor, noise_std: float, q: float) -> Tensor:
    """Index of the most likely candidate for each trial."""
    if not noise_std:
        seen = sums.abs().amax(1)
        return (seen[:, None] - own.abs()[None]).abs().sum(2).argmin(1)
    losses = (sums @ own.T - own.square().sum(1) / 2) / noise_std**2
    if q < 1:
        losses = torch.logaddexp(torch.tensor(math.log1p(-q), dtype=losses.dtype), math.log(q) + losses)
    return losses.sum(1).argmax(1)
