"""Privacy loss of Laplace noise."""

import math
from dataclasses import dataclass

import numpy as np

from reticent.accounting.atomic_loss import AtomicLoss
from reticent.accounting.loss import FloatArray, Masses, log


@dataclass(frozen=True)
class LaplaceLoss:
    """P = Laplace(1, b) against Q = Laplace(0, b): losses in [-1/b, 1/b], with atoms at both ends.

    Between the ends dP = e^((L - 1/b)/2) / 4 dL and dQ = e^-L dP; the atoms have half of P and of Q.
    """

    scale: float

    @property
    def span(self) -> tuple[float, float]:
        """See `Loss`; exact."""
        return -1 / self.scale, 1 / self.scale

    @property
    def spread(self) -> float:
        """See `Loss`."""
        return min(1.0, 1 / self.scale)

    @property
    def lattice(self) -> float | None:
        """See `Loss`: the atoms are then on the grid."""
        return 1 / self.scale

    @property
    def guard(self) -> float:
        """See `Loss`."""
        return 1e-13 * max(1.0, 1 / self.scale)

    def masses(self, edges: FloatArray) -> Masses:
        """See `Loss`."""
        end = 1 / self.scale
        inside = np.clip(edges, -end, end)
        a, b = inside[:-1], inside[1:]
        share = log(-np.expm1((a - b) / 2))
        present, absent = (b - end) / 2 + share - math.log(2), -(a + end) / 2 + share - math.log(2)
        bend = 2 * share - math.log(2)
        beyond = absent + a + log(-np.expm1(np.minimum(edges[:-1] - a, 0.0)))
        within = absent + np.minimum(edges[1:], 1e300) + log(-np.expm1(np.minimum(b - edges[1:], 0.0)))
        above, below = np.logaddexp((b - end) / 2 + bend, beyond), np.logaddexp(b - (a + end) / 2 + bend, within)
        atoms = AtomicLoss((-end, end), (-end - math.log(2), -math.log(2))).masses(edges)
        return Masses(*(np.logaddexp(*pair) for pair in zip((present, absent, above, below), atoms, strict=True)))

    def log_moment(self, order: int) -> float:
        """log(a/(2a-1) e^((a-1)/b) + (a-1)/(2a-1) e^(-a/b)) (Mironov, 2017, Proposition 6)."""
        end = 1 / self.scale
        share = order / (2 * order - 1)
        return float(np.logaddexp(np.log(share) + (order - 1) * end, np.log1p(-share) - order * end))
