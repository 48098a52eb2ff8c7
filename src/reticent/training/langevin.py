r"""Langevin sampling from a private run's own noise (Knolle et al. 2021).

With N subjects, expected batch L, clip norm C, noise multiplier :math:`\sigma` and prior
:math:`\mathcal N(0, \lambda^{-1} I)`, a step of plain DP-SGD with weight decay :math:`\lambda / N`,

.. math:: \theta \leftarrow \theta - \eta \Bigl[ \tfrac1L \bigl( \textstyle\sum_u \mathrm{clip}_C(g_u)
    + \sigma C \xi \bigr) + \tfrac{\lambda}{N} \theta \Bigr],

is a step of stochastic gradient Langevin dynamics (Welling and Teh, 2011) with :math:`h = 2 \eta / N`, at the
temperature of `effective_temperature`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from reticent.training.plan import Plan, expected_batch_size, expected_subjects
from reticent.training.tasks import ProbabilityTask

_BURN_IN = 0.5


def effective_temperature(
    learning_rate: float, noise_multiplier: float, max_norm: float, batch_size: float, subjects: float
) -> float:
    r""":math:`T = \eta \sigma^2 C^2 N / (2 L^2)`: 1 samples the posterior of the clipped loss, less is over-confident.

    Args:
        batch_size: expected number L of subjects a step.
        subjects: expected number N of training subjects.
    """
    return learning_rate * (noise_multiplier * max_norm / batch_size) ** 2 * subjects / 2


def run_temperature(plan: Plan, subjects: int) -> float | None:
    """Effective temperature of a Langevin run on so many training subjects; None for another optimiser."""
    study = plan.study
    if study.training.optimiser != "langevin" or plan.noise_multiplier is None:
        return None
    return effective_temperature(
        study.training.learning_rate,
        plan.noise_multiplier,
        study.privacy.max_norm,
        expected_batch_size(study, subjects),
        expected_subjects(study, subjects),
    )


def at_temperature(plan: Plan, subjects: int) -> Plan:
    """The plan with the learning rate that gives its Langevin temperature, where it names one."""
    training, present = plan.study.training, run_temperature(plan, subjects)
    if training.temperature is None or present is None:
        return plan
    rate = training.learning_rate * training.temperature / present
    return replace(
        plan, study=plan.study.model_copy(update={"training": training.model_copy(update={"learning_rate": rate})})
    )


class PosteriorSamples:
    """Weights at steps spread evenly over the second half of a run; what came before is burn-in.

    Every iterate is covered by the run's guarantee, so that any number of them may be released with it. Iterates that a
    kill took are left out.
    """

    def __init__(self, steps: int, samples: int) -> None:
        burn_in = int(_BURN_IN * steps)
        self._room = min(samples, steps - burn_in)
        self._steps = {burn_in + (k + 1) * (steps - burn_in) // self._room - 1 for k in range(self._room)}
        self._count = 0
        self._stored: dict[str, Tensor] = {}

    @property
    def values(self) -> dict[str, Tensor]:
        """Each value of the model's state so far, (samples, *shape)."""
        return {name: value[: self._count] for name, value in self._stored.items()}

    def update(self, step: int, model: nn.Module) -> None:
        """Keep the model's present state if this step is one of those."""
        if step not in self._steps:
            return
        for name, value in model.state_dict().items():
            kept = self._stored.setdefault(name, value.new_zeros(self._room, *value.shape))
            kept[self._count] = value
        self._count += 1

    def state_dict(self) -> dict[str, Tensor]:
        """The samples so far."""
        return self.values

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        self._stored = {}
        for name, values in state.items():
            self._count = len(values)
            self._stored[name] = values.new_zeros(self._room, *values.shape[1:])
            self._stored[name][: self._count] = values


class PosteriorMean(nn.Module):
    """Predicts with the mean of the probabilities that sampled weights give.

    Its outputs are logits: the task's probabilities of them are that mean.
    """

    def __init__(self, network: nn.Module, samples: Mapping[str, Tensor], task: ProbabilityTask) -> None:
        super().__init__()
        self.network, self.samples, self.task = network, dict(samples), task

    @property
    def count(self) -> int:
        """Number of samples M."""
        return len(next(iter(self.samples.values())))

    def forward(self, inputs: Any) -> Tensor:
        """Logits (n, k, ...) of the mean probabilities."""
        logits = self.logits(inputs)
        if self.task.kind == "multi-label":
            return F.logsigmoid(logits).logsumexp(0) - F.logsigmoid(-logits).logsumexp(0)
        return logits.log_softmax(2).logsumexp(0) - torch.tensor(float(self.count)).log()

    def probabilities(self, inputs: Any) -> Tensor:
        """Of each sample, (samples, n, k, ...)."""
        return torch.stack([self.task.probabilities(logits) for logits in self.logits(inputs)])

    def logits(self, inputs: Any) -> Tensor:
        """Of each sample, (samples, n, k, ...)."""
        found = []
        for k in range(self.count):
            output = functional_call(self.network, {name: value[k] for name, value in self.samples.items()}, (inputs,))
            found.append(output[0] if isinstance(output, tuple) else output)
        return torch.stack(found)


def uncertainty(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    r"""Entropy of the mean prediction, and the part of it that is the weights' (mutual information), in nats.

    :math:`H(\bar p)` and :math:`H(\bar p) - \frac1M \sum_m H(p_m) \ge 0` (Depeweg et al. 2018).

    Args:
        probabilities: of M samples, (samples, n, k), summing to 1 over the last axis.
    Returns:
        Two tensors (n,).
    """
    entropy = torch.special.entr(probabilities.mean(0)).sum(-1)
    return entropy, (entropy - torch.special.entr(probabilities).sum(-1).mean(0)).clamp(min=0)
