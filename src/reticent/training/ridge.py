"""Ridge regression as one private release: second moments as a clipped sum, and what is solved from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reticent.errors import InputError
from reticent.models import LinearModel
from reticent.training.engine import LossFn, clipped_grad
from reticent.training.private_run import PrivateRun
from reticent.training.tasks import Regression

_CONSTANT = 0.2
_SPREAD = 2.0
"""A row is the constant and the inputs times spread / sqrt(number): few parts of its bounded size go to the intercept.

These two and `_CAUTION` were chosen on the generated bodies; accuracy hardly depends on them within a factor of 1.5.
"""
_CAUTION = 0.3
"""The penalty for noise over the spectral norm of the noise matrix."""


class SecondMoments(nn.Module):
    r"""Its loss :math:`\ell = \langle G, z z^\top \rangle + \langle X, z y^\top \rangle` is linear in G and X.

    So its gradients are the moments :math:`z z^\top` and :math:`z y^\top` of a record, with z a constant and its scaled
    values and y its standardised targets. Their clipped sum bounds each subject's moments together in the Frobenius
    norm, and noise makes it a Gaussian mechanism. Both moments of a subject are scaled alike, so that what is solved is
    a ridge with weights and not a biased one.
    """

    def __init__(self, inputs: int, targets: int) -> None:
        super().__init__()
        self.gram = nn.Linear(inputs + 1, inputs + 1, bias=False)
        self.cross = nn.Linear(inputs + 1, targets, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of each record, (n,), of values x (n, d) and targets y (n, k)."""
        z = torch.cat([torch.full_like(x[:, :1], _CONSTANT), x * _scale(x.shape[1])], 1)
        return (self.gram(z) * z).sum(1) + (self.cross(z) * y).sum(1)


def moments_loss(task: Regression) -> LossFn:
    """`SecondMoments` of a batch's records, times each record's `share` of its subject."""

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        x = torch.cat([value.flatten(1) for value in batch["inputs"].values()], 1)
        losses: Tensor = model(x, task.standardised(batch["targets"]["label"]))
        return losses * batch["share"]

    return loss_fn


def fit_ridge(run: PrivateRun, model: nn.Module) -> None:
    """Take the run's one step, and put what is solved from its moments into a `LinearModel`.

    Every subject is scaled to the clipping norm (automatic clipping), so that no scale of the inputs needs tuning.

    Raises:
        InputError: the step was spent by a session that ended before its moments were kept.
    """
    assert isinstance(run.task, Regression)
    assert isinstance(model, LinearModel)
    moments = _moments_for(model)
    kept = run.restore(moments=moments)
    study, loss_fn = run.plan.study, moments_loss(run.task)
    for step in run.steps():
        if study.privacy.non_private:
            exact_moments(moments, loss_fn, step.batch, run.batch_size)
        else:
            bounded = clipped_grad(
                moments, loss_fn, step.batch, max_norm=study.privacy.max_norm, units=step.units, clipping="automatic",
                memory=study.training.memory_mb * 2**20,
            )  # fmt: skip
            step.privatise(moments, bounded)
        keep_moments(moments)
        run.save(moments=moments)
        kept = True
    if not kept:
        raise InputError(f"{run.folder.path}: the one step was spent, and what it gave was lost; start a new run")
    sigma = run.plan.noise_multiplier or 0.0
    fill_in(model, moments, run.batch_size, sigma * study.privacy.max_norm)


def fit_exactly(model: nn.Module, task: Regression, batch: dict[str, Any], batch_size: float) -> None:
    """Solve for a `LinearModel` from moments without clipping and noise."""
    assert isinstance(model, LinearModel)
    moments = _moments_for(model)
    exact_moments(moments, moments_loss(task), batch, batch_size)
    keep_moments(moments)
    fill_in(model, moments, batch_size, 0.0)


def exact_moments(moments: SecondMoments, loss_fn: LossFn, batch: dict[str, Any], batch_size: float) -> None:
    """Set the gradients to the moments of a batch over `batch_size`."""
    moments.zero_grad(set_to_none=True)
    losses = loss_fn(moments, batch)
    assert isinstance(losses, Tensor)
    (losses.sum() / batch_size).backward()


@torch.no_grad()
def keep_moments(moments: SecondMoments) -> None:
    """Put the gradients where the weights are: of the loss, which is linear, they do not depend on them."""
    for parameter in moments.parameters():
        assert parameter.grad is not None
        parameter.copy_(parameter.grad)


@torch.no_grad()
def fill_in(model: LinearModel, moments: SecondMoments, batch_size: float, noise: float) -> None:
    """Give a model the weights that its penalty makes of moments whose sum has noise of this standard deviation."""
    gram, cross = moments.gram.weight.double(), moments.cross.weight.double().T
    solved = solve_ridge(gram, cross, model.penalty / batch_size, noise / batch_size)
    model.linear.weight.copy_(solved.weight)
    model.linear.bias.copy_(solved.bias)


@dataclass(frozen=True)
class Solution:
    """Predictions are x @ weight.T + bias: (k, d) and (k,)."""

    weight: Tensor
    bias: Tensor


def solve_ridge(gram: Tensor, cross: Tensor, penalty: float, noise: float) -> Solution:
    r"""The ridge of noisy moments, by what is known of their noise; post-processing, which costs no privacy.

    Negative eigenvalues of the moments, which no data have, become zero: without this a direction whose eigenvalue the
    noise brought close to minus the penalty would get any weight. The penalty is :math:`\lambda \operatorname{diag}(v)`
    with the variances v of the inputs, so that their units do not matter, and for the noise
    :math:`0.3\, \tau \sqrt{2 (d + 1)}\, I`, a share of the spectral norm of the symmetric noise matrix. Without noise
    it is the ridge of standardised inputs with a free intercept.

    Args:
        gram: mean of z z^T, (1 + d, 1 + d), the constant first; need not be symmetric.
        cross: mean of z y^T, (1 + d, k).
        penalty: lambda over the number of subjects that the mean is of.
        noise: standard deviation tau of the noise in every entry; 0: none.

    Source: sufficient-statistics perturbation, Vu & Slavković 2009; a penalty by noise, Wang 2018 (AdaSSP).
    """
    gram = (gram + gram.T) / 2  # independent noise above and below the diagonal: half of its variance goes
    values, vectors = torch.linalg.eigh(gram)
    positive = (vectors * values.clamp(min=0)) @ vectors.T
    diagonal, first = positive.diagonal(), positive[0]
    variances = (diagonal - first**2 / first[0].clamp(min=1e-30)).clamp(min=0)
    variances[0] = 0
    ridge = penalty * variances + _CAUTION * noise * math.sqrt(2 * len(gram))
    ridge[1:] = ridge[1:].clamp(min=1e-5 * float(diagonal[1:].mean()) + 1e-30)  # inputs that never vary
    solved = torch.linalg.solve(positive + torch.diag(ridge), cross).T
    return Solution(solved[:, 1:] * _scale(len(gram) - 1), solved[:, 0] * _CONSTANT)


def _scale(inputs: int) -> float:
    return _SPREAD / math.sqrt(inputs)


def _moments_for(model: LinearModel) -> SecondMoments:
    return SecondMoments(model.linear.in_features, model.linear.out_features)
