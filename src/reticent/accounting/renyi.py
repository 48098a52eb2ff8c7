"""Rényi divergence of a privacy loss, and what it implies for epsilon and delta."""

import math

from reticent.accounting.loss import Loss


def renyi_divergence(loss: Loss, order: float) -> float:
    """Upper bound on the Rényi divergence of real order > 1, both orders of the pair; R_a = log E_Q[r^a] / (a - 1).

    As good as the loss's moments at whole orders; between them (a - 1) R_a is convex and replaced by its chord.
    """
    below = math.floor(order)
    fraction = order - below
    log_moment = (1 - fraction) * _log_moment(loss, below)
    if fraction:
        log_moment += fraction * _log_moment(loss, below + 1)
    # log-gamma of the order carries the rounding error; its size is order * log(order) units in the last place.
    return log_moment / (order - 1) * (1 + 1e-12 + 1e-14 * order)


def _log_moment(loss: Loss, order: int) -> float:
    return loss.log_moment(order) if order >= 2 else 0.0


def epsilon_of_divergence(divergence: float, order: float, delta: float) -> float:
    """epsilon at delta implied by a Rényi divergence at one order, may be negative.

    epsilon = R + log((a-1)/a) - (log delta + log a)/(a - 1) (Canonne, Kamath and Steinke, 2020, Proposition 12).
    """
    return divergence + math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)
