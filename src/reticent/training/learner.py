"""What a model learns with: the optimiser with its public schedule, and what is made of its iterates."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reticent.errors import InputError
from reticent.models import fitting_tensors
from reticent.records import Study
from reticent.training.averaging import MovingAverage
from reticent.training.langevin import PosteriorMean, PosteriorSamples
from reticent.training.tasks import ProbabilityTask, Task
from reticent.training.weights import read_weights

_WARM_UP = 0.05


class Learner:
    """Steps on the gradients that a model's parameters hold, and keeps an average or samples of the weights.

    It sees privatised gradients only: all it makes is post-processing.

    Args:
        subjects: expected number of training subjects, over which Langevin's prior is shared out.
    """

    def __init__(self, study: Study, model: nn.Module, subjects: float) -> None:
        self.study, self.model = study, model
        groups, self._shares = _groups(study, model)
        self.optimiser = _optimiser(study, groups, subjects)
        self.kept: MovingAverage | PosteriorSamples = (
            PosteriorSamples(study.privacy.steps, study.training.posterior_samples)
            if study.training.optimiser == "langevin"
            else MovingAverage(model, study.training.ema_decay)
        )

    @property
    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"model": self.model, "optimiser": self.optimiser, "average": self.kept}

    def step(self, index: int) -> None:
        """One step of the optimiser, at the rate of this step's number."""
        for group, share in zip(self.optimiser.param_groups, self._shares, strict=True):
            group["lr"] = scheduled_rate(self.study, index) * share
        self.optimiser.step()
        if isinstance(self.kept, PosteriorSamples):
            self.kept.update(index, self.model)
        else:
            self.kept.update(self.model)

    @property
    def released(self) -> dict[str, Tensor]:
        """The averaged weights; of Langevin all samples, (samples, *shape), or the last weights if a kill took all."""
        return self.kept.values or {name: value[None] for name, value in self.model.state_dict().items()}

    def predicting(self, task: Task) -> nn.Module:
        """The network that predicts with what is released."""
        return predicting(self.study, self.model, self.released, task)


def predicting(study: Study, model: nn.Module, released: dict[str, Tensor], task: Task) -> nn.Module:
    """The network of a run with its released values.

    Raises:
        RuntimeError: they are not this network's.
    """
    if study.training.optimiser == "langevin":
        model.load_state_dict({name: value[0] for name, value in released.items()})
        assert isinstance(task, ProbabilityTask)
        return PosteriorMean(model, released, task)
    model.load_state_dict(released)
    return model


def load_released(study: Study, model: nn.Module, path: Path, task: Task) -> nn.Module:
    """The network that predicts with a run's weights, all of them.

    Raises:
        InputError: they are not this network's.
    """
    try:
        return predicting(study, model, read_weights(path), task)
    except RuntimeError as error:
        raise InputError(
            f"{path}: the weights do not fit the network that the study names: {str(error).splitlines()[-1].strip()}"
        ) from error


def _optimiser(study: Study, groups: list[dict[str, Any]], subjects: float) -> torch.optim.Optimizer:
    training = study.training
    if training.optimiser == "langevin":
        return torch.optim.SGD(groups, training.learning_rate, weight_decay=training.prior_precision / subjects)
    if training.optimiser == "sgd":
        return torch.optim.SGD(groups, training.learning_rate, momentum=0.9)
    kinds = {"adam": torch.optim.Adam, "nadam": torch.optim.NAdam}
    return kinds[training.optimiser](groups, training.learning_rate)


def _groups(study: Study, model: nn.Module) -> tuple[list[dict[str, Any]], tuple[float, ...]]:
    """What is trained, and its shares of the learning rate: `transfer_rate` for what starts from weights, else 1."""
    options, trained = study.model, {name: p for name, p in model.named_parameters() if p.requires_grad}
    if options.init_from is None or options.transfer_rate == 1:
        return [{"params": list(trained.values())}], (1.0,)
    started = fitting_tensors(read_weights(options.init_from), model)
    groups = [{"params": [p for name, p in trained.items() if (name in started) == starts]} for starts in (True, False)]
    return groups, (options.transfer_rate, 1.0)


def scheduled_rate(study: Study, step: int) -> float:
    """Learning rate at a step: a function of the step's number alone."""
    training = study.training
    if training.schedule == "constant":
        return training.learning_rate
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * step / study.privacy.steps))


def scheduled_ascent(study: Study, step: int) -> float:
    """The step of bias-aware minimisation at a step: it grows over the first 5 % of them."""
    return study.training.bias_aware * min(1.0, (step + 1) / max(1.0, _WARM_UP * study.privacy.steps))
