"""Privacy loss of Gaussian noise on a sum over units that were drawn by Poisson sampling."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, log_ndtr, logsumexp, ndtri_exp

from reticent.accounting.loss import FloatArray, Masses, log, unsampled

LOG_TAIL = -110.0  # logarithm of the one-step tail mass outside of the span, about 2e-48
WIDE = 0.1  # in standard deviations: below, quadrature is exact to rounding; above, differences of Phi are
NODES, WEIGHTS = np.polynomial.legendre.leggauss(7)


@dataclass(frozen=True)
class GaussianLoss:
    """P = (1-q) N(0, sigma^2) + q N(1, sigma^2) against Q = N(0, sigma^2); q = 1 is the plain Gaussian mechanism.

    L(x) = log(1 - q + q e^((2x - 1) / (2 sigma^2))) grows with x, so a cell of losses is an interval of x.
    """

    noise_multiplier: float
    rate: float = 1.0

    @property
    def span(self) -> tuple[float, float]:
        """See `Loss`."""
        low, high = self._loss(np.array([-self._reach, 1 + self._reach]))
        return max(float(low), math.log1p(-self.rate)) if self.rate < 1 else float(low), float(high)

    @property
    def spread(self) -> float:
        """See `Loss`."""
        return self.rate / self.noise_multiplier

    @property
    def lattice(self) -> float | None:
        """See `Loss`."""
        return None

    @property
    def guard(self) -> float:
        """Quadrature nodes, Phi and the loss itself are accurate to about 100 units in the last place.

        That is 1e-14, for losses of order 1/sigma^2; the bound is a hundred times as much.
        """
        return 1e-12 * max(1.0, self.noise_multiplier**-2)

    @property
    def _reach(self) -> float:
        return -float(ndtri_exp(LOG_TAIL)) * self.noise_multiplier

    def masses(self, edges: FloatArray) -> Masses:
        """See `Loss`."""
        x = self._inverse(edges)
        with np.errstate(invalid="ignore"):
            width = np.nan_to_num(np.diff(x), nan=math.inf, posinf=math.inf) / self.noise_multiplier
        narrow = width < min(WIDE, self.noise_multiplier)
        found = Masses(*(np.full_like(width, -math.inf) for _ in range(4)))
        for chosen, integrate in ((narrow, self._by_quadrature), (~narrow, self._by_differences)):
            part = integrate(x[:-1][chosen], x[1:][chosen], edges[:-1][chosen], edges[1:][chosen])
            for whole, values in zip(found, part, strict=True):
                whole[chosen] = values
        return found

    def log_moment(self, order: int) -> float:
        """log sum_k C(a,k) (1-q)^(a-k) q^k e^(k(k-1)/(2 sigma^2)) (Mironov, Talwar and Zhang, 2019, section 3.3).

        The terms k = 0 and 1 make 1 with what is subtracted from the others: summing only the excess
        e^(k(k-1)/(2 sigma^2)) - 1 keeps relative accuracy when the moment is close to 1.
        """
        if self.rate == 1:
            return order * (order - 1) / (2 * self.noise_multiplier**2)
        k = np.arange(2, order + 1)
        log_binomial = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
        exponent = k * (k - 1) / (2 * self.noise_multiplier**2)
        log_excess = exponent + np.log(-np.expm1(-exponent))
        log_terms = log_binomial + (order - k) * math.log1p(-self.rate) + k * math.log(self.rate) + log_excess
        return float(np.logaddexp(0.0, logsumexp(log_terms)))

    def _loss(self, x: FloatArray) -> FloatArray:
        exponent = (2 * x - 1) / (2 * self.noise_multiplier**2)
        if self.rate == 1:
            return exponent
        near = np.log1p(self.rate * np.expm1(np.clip(exponent, -1.0, 1.0)))
        far = np.logaddexp(math.log1p(-self.rate), math.log(self.rate) + exponent)
        return np.where(np.abs(exponent) < 1, near, far)

    def _inverse(self, loss: FloatArray) -> FloatArray:
        s, q = self.noise_multiplier, self.rate
        if q == 1:
            return np.asarray(0.5 + s**2 * loss)
        return np.asarray(0.5 + s**2 * unsampled(loss, q))

    def _by_quadrature(self, left: FloatArray, right: FloatArray, low: FloatArray, high: FloatArray) -> Masses:
        """Seven-point Gauss-Legendre quadrature of P, Q, (1 - e^(low - L)) P and (e^(high - L) - 1) P.

        In terms of each cell's largest density of P, so that nothing underflows; Q = e^-L P.
        """
        s, q = self.noise_multiplier, self.rate
        half = (right - left) / 2
        middle = left + half
        base = -np.minimum((middle / s) ** 2, ((middle - 1) / s) ** 2) / 2 if q < 1 else -(((middle - 1) / s) ** 2) / 2
        present, absent, above, below = (np.zeros_like(left) for _ in range(4))
        for node, weight in zip(NODES, WEIGHTS, strict=True):
            x = left + half * (1 + node)
            shifted = np.exp(-(((x - 1) / s) ** 2) / 2 - base)
            here = weight * ((1 - q) * np.exp(-((x / s) ** 2) / 2 - base) + q * shifted if q < 1 else shifted)
            loss = self._loss(x)
            present += here
            absent += here * np.exp(low - loss)
            above -= here * np.expm1(low - loss)
            below += here * np.expm1(high - loss)
        scale = base + log(half / (s * math.sqrt(2 * math.pi)))
        return Masses(scale + log(present), scale + log(absent) - low, scale + log(above), scale + log(below))

    def _by_differences(self, left: FloatArray, right: FloatArray, low: FloatArray, high: FloatArray) -> Masses:
        s, q = self.noise_multiplier, self.rate
        absent = _log_normal_mass(left / s, right / s)
        shifted = _log_normal_mass((left - 1) / s, (right - 1) / s)
        present = np.logaddexp(math.log1p(-q) + absent, math.log(q) + shifted) if q < 1 else shifted
        with np.errstate(invalid="ignore"):
            # Of the plain pair: P - e^low Q is q times as much, up to the cell that reaches below the smallest loss.
            plain_low, plain_high = ((2 * x - 1) / (2 * s**2) for x in (left, right))
            above = math.log(q) + shifted + log(-np.expm1(np.minimum(plain_low + absent - shifted, 0.0)))
            excess = np.maximum(plain_high + absent - shifted, 0.0)  # e^excess - 1 times q P, without forming e^excess
            below = math.log(q) + np.maximum(plain_high + absent, shifted) + log(-np.expm1(-excess))
            if q < 1:
                gap = np.where(left == -math.inf, np.maximum(0.0, 1 - q - np.exp(np.minimum(low, 0.0))), 0.0)
                above = np.logaddexp(above, log(gap) + absent)
        return Masses(present, absent, np.nan_to_num(above, nan=-math.inf), np.nan_to_num(below, nan=-math.inf))


def _log_normal_mass(a: FloatArray, b: FloatArray) -> FloatArray:
    """Logarithm of the standard normal's mass between a and b, from the tail that does not cancel."""
    far, near = np.where(a > 0, a, -b), np.where(a > 0, b, -a)
    upper = log_ndtr(-far)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nan_to_num(upper + log(-np.expm1(log_ndtr(-near) - upper)), nan=-math.inf))
