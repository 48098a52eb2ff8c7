"""Privacy loss of discrete Gaussian noise."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import logsumexp

from reticent.accounting.atomic_loss import AtomicLoss
from reticent.accounting.loss import FloatArray, Masses

REACH = 15.0  # in sigmas: the tails beyond have less than e^-110
TAIL = 2e-48


@dataclass(frozen=True)
class DiscreteGaussianLoss:
    """Discrete Gaussian around s against the one around 0: at the integer x the loss is s (2x - s) / (2 sigma^2)."""

    sigma: float
    sensitivity: int

    @cached_property
    def _atoms(self) -> AtomicLoss:
        s, reach = self.sensitivity, math.ceil(REACH * self.sigma) + 1
        x = np.arange(-reach, s + reach + 1)
        width = 2 * self.sigma**2
        log_total = float(logsumexp(-(np.arange(-reach, reach + 1) ** 2) / width))
        losses, log_present = s * (2 * x - s) / width, -((x - s) ** 2) / width - log_total
        return AtomicLoss(tuple(losses), tuple(log_present), TAIL, TAIL)

    @property
    def span(self) -> tuple[float, float]:
        """See `Loss`."""
        return self._atoms.span

    @property
    def spread(self) -> float:
        """See `Loss`."""
        return self.sensitivity / self.sigma

    @property
    def lattice(self) -> float | None:
        """See `Loss`."""
        return self.sensitivity / (2 * self.sigma**2)

    @property
    def guard(self) -> float:
        """See `Loss`."""
        return self._atoms.guard

    def masses(self, edges: FloatArray) -> Masses:
        """See `Loss`."""
        return self._atoms.masses(edges)

    def log_moment(self, order: int) -> float:
        """a (a - 1) s^2 / (2 sigma^2): for whole a the sums of both Gaussians shift by whole numbers (Canonne, Kamath
        and Steinke, 2020, Proposition 5)."""
        return order * (order - 1) * self.sensitivity**2 / (2 * self.sigma**2)
