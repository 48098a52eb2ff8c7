"""The privacy loss of one release: what the engines need to know of it, and losses built from other losses."""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, logsumexp

FloatArray = npt.NDArray[np.float64]


class Masses(NamedTuple):
    """What lies in the cells a <= L < b of the loss L = log dP/dQ, one entry a cell: *logarithms* of masses.

    `above` is that of P - e^a Q and `below` that of e^b Q - P, which are >= 0 and say where in the cell the mass lies.
    They are given beside P and Q because the differences cancel in narrow cells.
    """

    present: FloatArray
    absent: FloatArray
    above: FloatArray
    below: FloatArray


class Loss(Protocol):
    """Privacy loss L = log dP/dQ of one release, with one unit present (P) or absent (Q).

    The pair is to dominate removal of a unit as (P, Q) and addition as (Q, P) (Zhu, Dong and Wang, 2022, Definition 7).
    """

    @property
    def span(self) -> tuple[float, float]:
        """Losses outside of which lies a mass of at most e^-110 under either distribution, up to infinite losses."""

    @property
    def spread(self) -> float:
        """Scale on which the loss varies: the discretisation is made fine against it."""

    @property
    def lattice(self) -> float | None:
        """The loss takes only multiples of this, if it is known to."""

    @property
    def guard(self) -> float:
        """Bound on rounding in `masses`: relative in masses, absolute in losses."""

    def masses(self, edges: FloatArray) -> Masses:
        """Masses between the increasing `edges`, shape (n + 1,), which may begin at -inf and end at inf."""

    def log_moment(self, order: int) -> float:
        """Upper bound on log E_Q[(dP/dQ)^order] and log E_P[(dQ/dP)^order], for whole orders >= 2; may be infinite."""


@dataclass(frozen=True)
class SampledLoss:
    """Loss of a release whose unit takes part with probability `rate`, independently of all others.

    Its pair is ((1-q) Q + q P, Q) (Zhu, Dong and Wang, 2022, Theorem 11), so r becomes 1 - q + q r. The pair sampled
    from is to be symmetric, (P, Q) ~ (Q, P) under a map of the outcomes, as it is for additive symmetric noise: its
    moments are then the larger ones for removal (Mironov, Talwar and Zhang, 2019, Theorem 5).
    """

    loss: Loss
    rate: float

    @property
    def span(self) -> tuple[float, float]:
        """See `Loss`."""
        low, high = self.loss.span
        return self._sampled(low), self._sampled(high)

    @property
    def spread(self) -> float:
        """See `Loss`."""
        return self.rate * min(1.0, self.loss.spread)

    @property
    def lattice(self) -> float | None:
        """See `Loss`."""
        return None

    @property
    def guard(self) -> float:
        """See `Loss`."""
        return self.loss.guard

    def masses(self, edges: FloatArray) -> Masses:
        """See `Loss`."""
        q = self.rate
        inner = self.loss.masses(unsampled(edges, q))
        # r never falls below 1 - q: a cell that starts lower has its mass further above its own lower end.
        gap = log(np.maximum(0.0, 1 - q - np.exp(np.minimum(edges[:-1], 0.0)))) + inner.absent
        return Masses(
            np.logaddexp(math.log1p(-q) + inner.absent, math.log(q) + inner.present),
            inner.absent,
            np.logaddexp(math.log(q) + inner.above, gap),
            math.log(q) + inner.below,
        )

    def log_moment(self, order: int) -> float:
        """log E[(1 - q + q r)^a] by the binomial theorem; the moments of r of order 0 and 1 are 1."""
        k = np.arange(2, order + 1)
        moments = np.array([self.loss.log_moment(int(j)) for j in k])
        log_binomial = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
        with np.errstate(divide="ignore"):
            log_excess = moments + np.log(-np.expm1(-moments))
        log_terms = log_binomial + (order - k) * math.log1p(-self.rate) + k * math.log(self.rate) + log_excess
        return float(np.logaddexp(0.0, logsumexp(log_terms))) * (1 + 1e-12) + 1e-15 * order

    def _sampled(self, loss: float) -> float:
        return float(np.logaddexp(math.log1p(-self.rate), math.log(self.rate) + loss))


@dataclass(frozen=True)
class SymmetrisedLoss:
    """Loss whose profile is the larger of removal's and addition's: losses above 0 twice, the rest of the mass at 0.

    For subsampling of fixed size under replace-one no single pair is known to be the worst, but both orders lie below
    this one (Zhu, Dong and Wang, 2022, Theorem 11; the operator C_q of Dong, Roth and Su, 2022).
    """

    loss: Loss

    @property
    def span(self) -> tuple[float, float]:
        """See `Loss`."""
        reach = max(0.0, self.loss.span[1])
        return -reach, reach

    @property
    def spread(self) -> float:
        """See `Loss`."""
        return self.loss.spread

    @property
    def lattice(self) -> float | None:
        """See `Loss`."""
        return self.loss.lattice

    @property
    def guard(self) -> float:
        """See `Loss`."""
        return self.loss.guard

    def masses(self, edges: FloatArray) -> Masses:
        """See `Loss`."""
        up, mirror = self._half(edges), self._half(-edges[::-1])
        rest = log(np.array(1 - np.exp(np.logaddexp(*self._half(np.array([0.0, math.inf]))[:2]))))[0]
        low, high = np.minimum(edges[:-1], 0.0), edges[1:]
        at_zero = np.where((edges[:-1] <= 0) & (high > 0), float(rest), -math.inf)
        with np.errstate(invalid="ignore"):
            down_above = np.nan_to_num(edges[:-1] + mirror.below[::-1], nan=-math.inf, neginf=-math.inf)
            down_below = np.nan_to_num(high + mirror.above[::-1], nan=-math.inf, neginf=-math.inf)
        growth = np.where(high > 0, np.minimum(high, 700.0) + log(-np.expm1(-np.maximum(high, 0.0))), -math.inf)
        return Masses(
            np.logaddexp.reduce([up.present, mirror.absent[::-1], at_zero]),
            np.logaddexp.reduce([up.absent, mirror.present[::-1], at_zero]),
            np.logaddexp.reduce([up.above, down_above, at_zero + log(-np.expm1(low))]),
            np.logaddexp.reduce([up.below, down_below, at_zero + growth]),
        )

    def _half(self, edges: FloatArray) -> Masses:
        """Masses of the losses above 0; cells that straddle 0 keep what is above it, measured from their own ends."""
        inner = self.loss.masses(np.maximum(edges, 0.0))
        gap = log(-np.expm1(np.minimum(edges[:-1], 0.0))) + inner.absent
        return inner._replace(above=np.logaddexp(inner.above, gap))

    def log_moment(self, order: int) -> float:
        """E r^a = 1 + the integral over r > 1 of r^a - r + r^(1-a) - 1 dQ, which is at most twice r^a - 1 - a (r - 1).

        The latter integrates, over all r, to the moment of one order less 1.
        """
        moment = self.loss.log_moment(order)
        return math.log1p(2 * math.expm1(moment)) if moment < 30 else moment + math.log(2)


def unsampled(loss: FloatArray, rate: float) -> FloatArray:
    """Loss l of the release sampled from: loss = log(1 - q + q e^l); minus infinity from log(1 - q) downwards.

    Of two forms each loses its digits where the other keeps them.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        near = np.log1p(np.maximum(np.expm1(np.minimum(loss, 1.0)) / rate, -1.0))
        far = loss - math.log(rate) + np.log1p(np.maximum(-(1 - rate) * np.exp(-loss), -1.0))
        plain = np.where((loss < 1) & (loss > math.log(rate)), near, far)
    return np.where(loss <= math.log1p(-rate), -math.inf, plain)


def log(values: FloatArray) -> FloatArray:
    """Logarithm, minus infinity at 0."""
    with np.errstate(divide="ignore"):
        return np.atleast_1d(np.log(values))
