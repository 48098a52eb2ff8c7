"""What a model says about a record with its true label: how sure it is, on a scale where memories show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reticent.attacks.scores import Array
from reticent.training import PreparedCohort, Task, predict

_CHUNK = 256


class Signals(NamedTuple):
    """Of each record, (n,) or (models, n)."""

    phi: Array
    r"""Logit of the true class's probability, :math:`\log p_y - \log(1 - p_y)` (Carlini et al. 2022, section IV-C); of
    several labels and of masks the negative mean loss of a label or pixel, of other tasks that of the record."""
    log_p: Array
    """Logarithm of the true class's probability; of several labels and of masks of its geometric mean."""


def record_signals(model: nn.Module, data: PreparedCohort, task: Task, records: Sequence[int]) -> Signals:
    """Signals of a cohort's records under a model in evaluation mode."""
    parts = []
    for start in range(0, len(records), _CHUNK):
        batch = data.batch(records[start : start + _CHUNK])
        parts.append(signals(predict(model, batch["inputs"]), batch["targets"], task))
    return Signals(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def signals(logits: Tensor, targets: dict[str, Tensor], task: Task) -> Signals:
    """Signals of records with these logits, in float64: 1 - p is lost in a float32 probability."""
    logits = logits.double()
    if task.segments:
        log_p = -F.cross_entropy(logits, targets["mask"], reduction="none").flatten(1).mean(1)
    elif task.kind not in ("binary", "multi-class"):
        log_p = -task.losses(logits, targets, None)
    else:
        label = targets["label"][:, None]
        every = logits.log_softmax(1)
        log_p = every.gather(1, label)[:, 0]
        others = every.scatter(1, label, -torch.inf).logsumexp(1)
        return Signals((log_p - others).numpy(), log_p.numpy())
    return Signals(log_p.numpy(), log_p.numpy())
