"""Steps and batch size from a privacy target and a compute budget: no patient's data are looked at."""

from __future__ import annotations

import math
from collections.abc import Callable

from reticent.records import Study

_RATES = [2.0 ** (-k / 2) for k in range(9)]
_NEAR = 1.2


def with_chosen_schedule(study: Study, noise_multiplier: Callable[[Study], float]) -> Study:
    r"""The study with the smallest batch whose noise is nearly as low as that of full batches.

    Over E epochs, :math:`E = q T`, the noise of all steps beside the signal of all steps is
    :math:`\sigma(q, T) \sqrt T / (q T)` times :math:`\sqrt d / N` with :math:`\sigma` calibrated to the target. It
    falls with the sampling rate q towards that of q = 1, where few steps are left to learn in. The smallest
    q = 2^(-k/2) within 20 % of the lowest is taken, which leaves the most steps; not below 1/16, for steps have a cost
    of their own.

    Args:
        study: with `epochs`.
        noise_multiplier: calibrates a study that has steps and sampling rate.
    """
    epochs = study.privacy.epochs
    assert epochs is not None
    rates = [rate for rate in _RATES if rate <= epochs]
    tried: dict[float, tuple[float, Study]] = {}

    def noise(rate: float) -> float:
        if rate not in tried:
            made = _with(study, rate, max(1, round(epochs / rate)))
            tried[rate] = noise_multiplier(made) / math.sqrt(made.privacy.steps) / rate, made
        return tried[rate][0]

    lowest, near, far = noise(rates[0]), 0, len(rates)
    while far - near > 1:
        middle = (near + far) // 2
        if noise(rates[middle]) <= _NEAR * lowest:
            near = middle
        else:
            far = middle
    return tried[rates[near]][1]


def _with(study: Study, sampling_rate: float, steps: int) -> Study:
    privacy = study.privacy.model_copy(update={"sampling_rate": sampling_rate, "steps": steps, "epochs": None})
    return study.model_copy(update={"privacy": privacy})
