"""Privacy loss that takes finitely many values."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from reticent.accounting.loss import FloatArray, Masses

SNAP = 1e-12  # relative: an atom this close below an edge counts as lying on it


@dataclass(frozen=True)
class AtomicLoss:
    """Atoms at increasing finite `losses`, with their probabilities under P and under Q; P = e^loss Q at each.

    P has a further mass of `infinite` at an infinite loss, Q one of `never` at a loss of minus infinity.
    """

    losses: tuple[float, ...]
    present: tuple[float, ...]
    absent: tuple[float, ...]
    infinite: float = 0.0
    never: float = 0.0
    lattice: float | None = None

    @property
    def span(self) -> tuple[float, float]:
        """See `Loss`; exact."""
        return self.losses[0], self.losses[-1]

    @property
    def spread(self) -> float:
        """See `Loss`."""
        return min(1.0, max(abs(self.losses[0]), abs(self.losses[-1]), 1e-9))

    @property
    def guard(self) -> float:
        """See `Loss`."""
        return 2 * SNAP * (1 + max(abs(self.losses[0]), abs(self.losses[-1])))

    def masses(self, edges: FloatArray) -> Masses:
        """See `Loss`."""
        losses, p, q = (np.asarray(values) for values in (self.losses, self.present, self.absent))
        cell = np.searchsorted(edges, losses + SNAP * (1 + np.abs(losses)), side="right") - 1
        kept = (cell >= 0) & (cell < len(edges) - 1)
        cell, losses, p, q = cell[kept], losses[kept], p[kept], q[kept]
        low, high = edges[:-1][cell], edges[1:][cell]
        with np.errstate(over="ignore"):
            above = p * np.maximum(0.0, -np.expm1(low - losses))
            below = p * np.minimum(np.expm1(high - losses), 1e300)
        count = len(edges) - 1
        found = [
            np.bincount(cell, weights=values, minlength=count).astype(np.float64) for values in (p, q, above, below)
        ]
        if edges[0] == -math.inf:
            found[1][0] += self.never
            found[3][0] += self.never * math.exp(min(700.0, edges[1]))
        if edges[-1] == math.inf:
            found[0][-1] += self.infinite
            found[2][-1] += self.infinite
        return Masses(*found)

    def log_moment(self, order: int) -> float:
        """Sums over the atoms, the larger of both orders; infinite where either distribution has mass of its own."""
        if self.infinite > 0 or self.never > 0:
            return math.inf
        losses, p, q = (np.asarray(values) for values in (self.losses, self.present, self.absent))
        forward = logsumexp((order - 1) * losses, b=p)
        return float(max(forward, logsumexp(-(order - 1) * losses, b=q)))
