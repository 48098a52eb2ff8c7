"""One Poisson-sampled Gaussian step as a discrete pair of distributions that dominates the true one."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri_exp

FloatArray = npt.NDArray[np.float64]

LOG_TAIL = -70.0  # logarithm of the one-step tail mass set aside, about 4e-31
WIDE = 0.1  # in standard deviations: below, quadrature is exact to rounding; above, differences of Phi are
FAINT = 1e-290  # masses below lose relative accuracy; their cells go to the upper end whole, in both directions
NODES, WEIGHTS = np.polynomial.legendre.leggauss(7)


@dataclass(frozen=True)
class LossPmf:
    """Masses of the privacy loss at (first + i) * grid, plus the mass at infinite loss."""

    first: int
    probabilities: FloatArray
    infinite: float
    raised: float = 0.0
    """Mass of the cells that went to their upper end whole, further than connecting the dots would move it."""

    @cached_property
    def log_probabilities(self) -> FloatArray:
        """Logarithms of the masses."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.probabilities))

    @cached_property
    def variance(self) -> float:
        """Variance of the finite losses, in squared grid steps."""
        steps = np.arange(len(self.probabilities), dtype=np.float64)
        return float(self.probabilities @ (steps - self.probabilities @ steps) ** 2)


def rounding_guard(noise_multiplier: float) -> float:
    """Bound on what rounding can do to one step: absolute in its loss, relative in its masses.

    Quadrature nodes, Phi and the loss itself are accurate to about 100 units in the last place (1e-14), for losses of
    order 1/sigma^2; the bound is a hundred times that.
    """
    return 1e-12 * max(1.0, noise_multiplier**-2)


def loss_span(noise_multiplier: float, sampling_rate: float) -> float:
    """Width of the range of losses that the discretisation covers."""
    low, high = _support(noise_multiplier, sampling_rate)
    bottom = math.log1p(-sampling_rate) if sampling_rate < 1 else _loss(np.array(low), noise_multiplier, 1.0)
    return float(_loss(np.array(high), noise_multiplier, sampling_rate) - bottom)


def discretise(noise_multiplier: float, sampling_rate: float, grid: float) -> tuple[LossPmf, LossPmf]:
    """Privacy-loss masses of one step on multiples of `grid`, for removal and for addition of one unit.

    With present P = (1-q) N(0, sigma^2) + q N(1, sigma^2), absent Q = N(0, sigma^2) and L = log dP/dQ, each cell
    kh <= L < (k+1)h keeps its masses under P and Q but moves them to its two ends: "connect the dots" (Doroshenko et
    al., 2022), hence a dominating pair. The masses are integrals over the cell, never second differences of delta,
    and the share of each cell's upper end is raised by the rounding guard.
    """
    s, q = noise_multiplier, sampling_rate
    low, high = _support(s, q)
    first = math.floor((math.log1p(-q) if q < 1 else float(_loss(np.array(low), s, q))) / grid)
    count = math.ceil(float(_loss(np.array(high), s, q)) / grid) - first
    edges = _inverse_loss(_multiples(first, count + 1, grid), s, q)
    if q < 1:
        edges[0] = -math.inf
    present, absent, upper_share = _cells(edges, first, s, q, grid)
    shift = math.exp(-grid)
    upper_share_reversed = (1 - upper_share) / ((1 - upper_share) + upper_share * shift)
    faint = np.minimum(absent, present) < FAINT
    upper_share[faint] = upper_share_reversed[faint] = 1.0
    guard = rounding_guard(s) / grid

    below, above = (edges[0] / s, (edges[0] - 1) / s), (-edges[-1] / s, (1 - edges[-1]) / s)
    removal = _pmf(first, present, upper_share + guard, _mixture_tail(below, q))
    addition = _pmf(-first - count, absent[::-1], upper_share_reversed[::-1] + guard, float(ndtr(above[0])))
    return (
        LossPmf(first, removal, _mixture_tail(above, q), float(present[faint].sum())),
        LossPmf(-first - count, addition, float(ndtr(below[0])), float(absent[faint].sum())),
    )


def _support(s: float, q: float) -> tuple[float, float]:
    reach = -float(ndtri_exp(LOG_TAIL)) * s
    return -reach, 1 + reach


def _mixture_tail(arguments: tuple[float, float], q: float) -> float:
    return (1 - q) * float(ndtr(arguments[0])) + q * float(ndtr(arguments[1]))


def _pmf(first: int, masses: FloatArray, upper_share: FloatArray, bottom: float) -> FloatArray:
    share = np.clip(upper_share, 0.0, 1.0)
    probabilities = np.zeros(len(masses) + 1)
    probabilities[:-1] = masses * (1 - share)
    probabilities[1:] += masses * share
    probabilities[0] += bottom
    return probabilities


def _loss(x: FloatArray, s: float, q: float) -> FloatArray:
    exponent = (2 * x - 1) / (2 * s**2)
    if q == 1:
        return exponent
    near = np.log1p(q * np.expm1(np.clip(exponent, -1.0, 1.0)))
    return np.where(np.abs(exponent) < 1, near, np.logaddexp(math.log1p(-q), math.log(q) + exponent))


def _inverse_loss(loss: FloatArray, s: float, q: float) -> FloatArray:
    if q == 1:
        return 0.5 + s**2 * loss
    with np.errstate(divide="ignore", invalid="ignore"):
        near = np.log1p(np.maximum(np.expm1(np.minimum(loss, 1.0)) / q, -1.0))
        far = loss - math.log(q) + np.log1p(np.maximum(-(1 - q) * np.exp(-loss), -1.0))
        exponent = np.where((loss < 1) & (near > -1), near, far)
    return np.asarray(0.5 + s**2 * exponent)


def _cells(edges: FloatArray, first: int, s: float, q: float, grid: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mass under P, mass under Q, and share of P's mass that goes to the upper end, for each cell."""
    width = np.diff(edges) / s
    narrow = width < min(WIDE, s)
    losses = _multiples(first, len(width), grid)
    present, absent, moved = np.empty_like(width), np.empty_like(width), np.empty_like(width)
    for chosen, integrate in ((narrow, _by_quadrature), (~narrow, _by_differences)):
        present[chosen], absent[chosen], moved[chosen] = integrate(
            edges[:-1][chosen], edges[1:][chosen], losses[chosen], s, q
        )
    share = np.divide(moved, present, out=np.ones_like(moved), where=present > 0) / -math.expm1(-grid)
    return present, absent, np.clip(share, 0.0, 1.0)


def _by_quadrature(
    left: FloatArray, right: FloatArray, losses: FloatArray, s: float, q: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """P(cell), Q(cell) and the integral of 1 - e^(kh - L) dP, by seven-point Gauss-Legendre quadrature."""
    present, absent, moved = np.zeros_like(left), np.zeros_like(left), np.zeros_like(left)
    half = (right - left) / 2
    for node, weight in zip(NODES, WEIGHTS, strict=True):
        x = left + half * (1 + node)
        absent_here = weight * half / (s * math.sqrt(2 * math.pi)) * np.exp(-((x / s) ** 2) / 2)
        shifted = weight * half / (s * math.sqrt(2 * math.pi)) * np.exp(-(((x - 1) / s) ** 2) / 2)
        present_here = (1 - q) * absent_here + q * shifted
        present += present_here
        absent += absent_here
        moved -= present_here * np.expm1(losses - _loss(x, s, q))
    return present, absent, moved


def _by_differences(
    left: FloatArray, right: FloatArray, losses: FloatArray, s: float, q: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    absent = _normal_mass(left / s, right / s)
    present = (1 - q) * absent + q * _normal_mass((left - 1) / s, (right - 1) / s)
    with np.errstate(divide="ignore"):
        return present, absent, present - np.exp(losses + np.log(absent))


def _normal_mass(a: FloatArray, b: FloatArray) -> FloatArray:
    """Mass of the standard normal between a and b, from the tail that does not cancel."""
    return np.asarray(np.where(a > 0, ndtr(-a) - ndtr(-b), ndtr(b) - ndtr(a)))


def _multiples(first: int, count: int, grid: float) -> FloatArray:
    return np.arange(first, first + count, dtype=np.float64) * grid
