"""Privacy loss that takes finitely many values."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from reticent.accounting.loss import FloatArray, Masses, log

SNAP = 1e-12  # relative: an atom this close below an edge counts as lying on it


@dataclass(frozen=True)
class AtomicLoss:
    """Atoms at increasing finite `losses`, with the logarithms of their probabilities under P; Q = e^-loss P at each.

    P has a further mass of `infinite` at an infinite loss, Q one of `never` at a loss of minus infinity.
    """

    losses: tuple[float, ...]
    log_present: tuple[float, ...]
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
        return 2 * SNAP * max(abs(self.losses[0]), abs(self.losses[-1]))

    def masses(self, edges: FloatArray) -> Masses:
        """See `Loss`."""
        losses, present = np.asarray(self.losses), np.asarray(self.log_present)
        cell = np.searchsorted(edges, losses + SNAP * np.abs(losses), side="right") - 1
        kept = (cell >= 0) & (cell < len(edges) - 1)
        cell, losses, present = cell[kept], losses[kept], present[kept]
        low, high = np.minimum(edges[:-1][cell] - losses, 0.0), np.clip(edges[1:][cell] - losses, 0.0, 1e300)
        rising = high + log(-np.expm1(-high))
        found = Masses(*(np.full(len(edges) - 1, -math.inf) for _ in range(4)))
        for whole, values in zip(
            found, (present, present - losses, present + log(-np.expm1(low)), present + rising), strict=True
        ):
            np.logaddexp.at(whole, cell, values)
        if edges[0] == -math.inf and self.never:
            found.absent[0] = np.logaddexp(found.absent[0], math.log(self.never))
            found.below[0] = np.logaddexp(found.below[0], math.log(self.never) + edges[1])
        if edges[-1] == math.inf and self.infinite:
            found.present[-1] = np.logaddexp(found.present[-1], math.log(self.infinite))
            found.above[-1] = np.logaddexp(found.above[-1], math.log(self.infinite))
        return found

    def log_moment(self, order: int) -> float:
        """Sums over the atoms, the larger of both orders; infinite where either distribution has mass of its own."""
        if self.infinite > 0 or self.never > 0:
            return math.inf
        losses, present = np.asarray(self.losses), np.asarray(self.log_present)
        return float(max(logsumexp((order - 1) * losses + present), logsumexp(-order * losses + present)))
