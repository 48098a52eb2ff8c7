"""RMIA: how much likelier the model finds a record than a typical model does (Zarifzadeh, Liu and Shokri 2024)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from reticent.attacks.scores import Array

OFFLINE_SLOPE = 0.3
"""How much of a probability without the record one with it keeps, on the line through (1, 1)."""


def rmia_online(target: Array, references: Array, inside: NDArray[np.bool_]) -> Array:
    r"""Log of :math:`p(x \mid \theta) / p(x)`, p(x) the mean over references, half with and half without x, (n,).

    The published score is the share of population records whose ratio, times gamma, is smaller: it rises with this
    one and with nothing else, so that both find the same members at each rate of false alarms.

    Args:
        target: log-probabilities of the true label under the model under attack, (n,).
        references: the same under the reference models, (models, n).
        inside: which reference was trained on which record, (models, n).
    """
    halves = [_log_mean(references, chosen) for chosen in (inside, ~inside)]
    return np.asarray(target - np.logaddexp(*halves) + np.log(2))


def rmia_offline(target: Array, references: Array, inside: NDArray[np.bool_], slope: float = OFFLINE_SLOPE) -> Array:
    """The same with p(x) = ((1 + slope) m + 1 - slope) / 2 from the mean m over references without x alone."""
    without = _log_mean(references, ~inside)
    typical = np.logaddexp(np.log1p(slope) + without, np.log1p(-slope)) - np.log(2)
    return np.asarray(target - typical)


def _log_mean(log_p: Array, chosen: NDArray[np.bool_]) -> Array:
    return np.asarray(logsumexp(log_p, 0, b=chosen) - np.log(chosen.sum(0)))
