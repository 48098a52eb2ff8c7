"""What a white-box adversary sees of a training: every noisy sum of gradients, freed of the noise's correlation."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from torch import Tensor, nn

from reticent.attacks.auditing.dirac_canaries import Coordinates
from reticent.records import Study, write_file
from reticent.training import ClippedGrad, column_norm, strategy_coefficients

Array = NDArray[np.float64]
_SAVES = 20


class Watch:
    """Follows the steps of one training; `save` keeps in `path` what was seen, for one that is interrupted."""

    def __init__(self, study: Study, coordinates: Coordinates, patients: int, path: Path) -> None:
        self.study, self.coordinates, self._path = study, coordinates, path
        steps = study.privacy.steps
        self.outputs: Array = np.full((steps, len(coordinates.place_of)), np.nan)
        """Noisy sum along each canary in units of the clip norm, (steps, canaries); NaN where a kill lost the step."""
        self.noise: Array = np.zeros((0, 3))
        """By trained tensor: values drawn, and the sums of their squares and of their products with the step before,
        in units of the standard deviation that is accounted for."""
        self.taken = np.zeros((steps, patients), bool)
        """Who took part in each step."""
        self._coefficients = strategy_coefficients(steps, study.privacy.groups)
        self._past: deque[list[Tensor]] = deque(maxlen=len(self._coefficients) - 1)
        self._last: list[Tensor] = []
        if path.is_file():
            with np.load(path) as kept:
                self.outputs, self.noise, self.taken = kept["outputs"], kept["noise"], kept["taken"]

    def see(
        self, step: int, patients: NDArray[np.int64], model: nn.Module, gradients: ClippedGrad, batch_size: float
    ) -> None:
        """Take note of the `.grad` of a step on these patients; `gradients` are the same without noise."""
        privacy, names = self.study.privacy, list(gradients.sum)
        assert privacy.noise_multiplier is not None
        own = dict(model.named_parameters())
        noisy = {name: _gradient(own[name]).to(gradients.sum[name]) * batch_size for name in names}
        drawn = [_flat(noisy[name] - gradients.sum[name]) for name in names]
        scale = privacy.max_norm * column_norm(self._coefficients, privacy.steps - step)
        vectors = [vector / scale for vector in (self.coordinates.read(noisy), *drawn)]
        seen, *fresh = (
            sum((c * past[k] for c, past in zip(self._coefficients[1:], self._past, strict=False)),
                self._coefficients[0] * vector)
            for k, vector in enumerate(vectors)
        )  # fmt: skip
        self._past.appendleft(vectors)
        self.outputs[step], self.taken[step, patients] = seen.numpy(), True
        fresh = [z / privacy.noise_multiplier for z in fresh]
        products = [float(z @ before) for z, before in zip(fresh, self._last, strict=True)] if self._last else 0.0
        found = np.array([[z.numel(), float(z @ z), 0.0] for z in fresh])
        found[:, 2] = products
        self.noise = found if not len(self.noise) else self.noise + found
        self._last = fresh
        if (step + 1) % max(1, privacy.steps // _SAVES) == 0:
            self.save()

    def save(self) -> None:
        """Keep what was seen so far."""

        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.savez(file, outputs=self.outputs, noise=self.noise, taken=self.taken)

        write_file(self._path, write)


def likelihood_ratios(outputs: Array, study: Study) -> Array:
    r"""Log-likelihood ratio of each canary's being in, (canaries,), from what `Watch` saw of it.

    Sampled with probability q at each turn, noise multiplier :math:`\sigma`, output y of a turn:
    :math:`\sum \log(1 - q + q e^{(y - 1/2) / \sigma^2})`. With correlated noise y is the matched filter over the steps
    that the turn's contribution is spread over; the canary's group is unknown, all being alike. A step that was lost
    says nothing.
    """
    privacy, (steps, _) = study.privacy, outputs.shape
    assert privacy.noise_multiplier is not None
    coefficients = strategy_coefficients(steps, privacy.groups)
    with np.errstate(divide="ignore"):
        absent = np.log1p(-np.float64(privacy.sampling_rate))
    totals = np.zeros((privacy.groups, outputs.shape[1]))
    for turn in range(steps):
        own = np.array(coefficients[: steps - turn])
        y = own @ outputs[turn : turn + len(own)] / np.sqrt(own @ own)
        present = np.log(privacy.sampling_rate) + (y - 0.5) / privacy.noise_multiplier**2
        totals[turn % privacy.groups] += np.nan_to_num(np.logaddexp(absent, present))
    return np.asarray(logsumexp(totals, axis=0) - np.log(privacy.groups))


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad.detach()


def _flat(values: Tensor) -> Tensor:
    return (torch.view_as_real(values) if values.is_complex() else values).reshape(-1)
