"""Profile of any composition of privacy losses."""

import math
from collections.abc import Callable, Sequence
from copy import copy
from typing import overload

import numpy as np

from reticent.accounting.checks import require_alphas, require_open, require_steps
from reticent.accounting.contour import Contour
from reticent.accounting.contour_moments import Direction as Order
from reticent.accounting.covering import covering_mu
from reticent.accounting.curve import Curve
from reticent.accounting.gaussian_loss import GaussianLoss
from reticent.accounting.group import GroupCurves
from reticent.accounting.loss import FloatArray
from reticent.accounting.loss_bounds import (
    DECADES_PER_LEVEL,
    LEVELS,
    LossBounds,
    LossCurves,
    Release,
    level_of,
    levels_down_to,
)
from reticent.accounting.plans import merged
from reticent.accounting.profiles import Alphas, Direction, exact, like
from reticent.accounting.renyi import epsilon_of_divergence, renyi_divergence
from reticent.accounting.values import Certified

FALLBACK_ORDERS = np.unique(np.round(np.geomspace(2, 5000, 120)).astype(int))


class LossProfile:
    """Two-sided bounds for mechanisms that are a plan of releases, the worse of several plans, or lie below one.

    `plans` dominate the mechanism; `attained` are plans that it can be made to follow, if they are others: the lower
    bounds come from them. Below a delta of 1e-24 or so epsilon falls back on the Rényi bound, which is looser and still
    a bound.
    """

    def __init__(
        self,
        plans: Sequence[Sequence[Release]],
        attained: Sequence[Sequence[Release]] | None = None,
        accuracy: float = 1e-5,
    ) -> None:
        require_open("accuracy", accuracy, 0.0, 1.0)
        self._plans: list[Sequence[Release]] | None = [merged(plan) for plan in plans]
        self._curves: LossCurves | GroupCurves = LossCurves(
            [LossBounds(plan, accuracy) for plan in self._plans],
            None if attained is None else [LossBounds(merged(plan), accuracy) for plan in attained],
        )
        self._accuracy = accuracy
        self._contour = _contour_of(self._plans) if attained is None else None
        alone = attained is None and len(self._plans) == 1 and len(self._plans[0]) == 1
        self._single = self._plans[0][0].loss if alone and self._plans[0][0].times == 1 else None

    def epsilon(self, delta: float, direction: Direction = "worst") -> Certified:
        """See `PrivacyProfile`."""
        require_open("delta", delta, 0.0, 1.0)
        if self._single is not None:
            return exact(_smallest(lambda epsilon: self._at_once(epsilon, direction), delta, self._single.span))
        found = self._by_contour(lambda contour, order: contour.epsilon(delta, order), direction)
        if found is not None and found.upper - found.lower <= self._accuracy * found.upper:
            return found
        lower, upper = self._curves.curve((level_of(delta),), direction).steep.epsilon(delta)
        if math.isinf(upper) and found is None:
            upper = max(0.0, min(float(epsilon_of_divergence(self.renyi(a), a, delta)) for a in FALLBACK_ORDERS))
        return _both(Certified(min(lower, upper), upper, "upper"), found)

    def delta(self, epsilon: float, direction: Direction = "worst") -> Certified:
        """See `PrivacyProfile`."""
        require_open("epsilon", epsilon, -math.inf, math.inf)
        if epsilon < 0:  # delta(-e) = 1 - e^-e + e^-e delta(e) with the roles of the two distributions exchanged
            other: dict[Direction, Direction] = {"worst": "worst", "remove": "add", "add": "remove"}
            mirrored = self.delta(-epsilon, other[direction])
            bounds = [-math.expm1(epsilon) + math.exp(epsilon) * side for side in (mirrored.lower, mirrored.upper)]
            return Certified(bounds[0], bounds[1], "upper")
        if self._single is not None:
            return exact(self._at_once(epsilon, direction))
        found = self._by_contour(lambda contour, order: contour.delta(epsilon, order), direction)
        if found is not None and found.upper - found.lower <= self._accuracy * found.upper:
            return found
        for level in range(LEVELS):
            lower, upper = self._curves.curve(tuple(range(level + 1)), direction).steep.delta(epsilon)
            if upper > 10.0 ** -(DECADES_PER_LEVEL * (level + 0.5)):
                break
        return _both(Certified(lower, upper, "upper"), found)

    @overload
    def tradeoff(self, alpha: float, direction: Direction = "worst") -> Certified: ...
    @overload
    def tradeoff(self, alpha: Alphas, direction: Direction = "worst") -> list[Certified]: ...
    def tradeoff(self, alpha: float | Alphas, direction: Direction = "worst") -> Certified | list[Certified]:
        """See `PrivacyProfile`."""
        alphas, curve = self._for(alpha, direction)
        safe, _ = curve.best_test(alphas)
        loose = np.maximum(safe, curve.miss_from_above(alphas))
        return like(alpha, [Certified(float(a), float(b), "lower") for a, b in zip(safe, loose, strict=True)])

    @overload
    def power(self, alpha: float, direction: Direction = "worst") -> Certified: ...
    @overload
    def power(self, alpha: Alphas, direction: Direction = "worst") -> list[Certified]: ...
    def power(self, alpha: float | Alphas, direction: Direction = "worst") -> Certified | list[Certified]:
        """See `PrivacyProfile`."""
        alphas, curve = self._for(alpha, direction)
        _, safe = curve.best_test(alphas)
        loose = np.minimum(safe, curve.power_from_below(alphas))
        return like(alpha, [Certified(float(a), float(b), "upper") for a, b in zip(loose, safe, strict=True)])

    def advantage(self) -> Certified:
        """See `PrivacyProfile`."""
        return self.delta(0.0)

    def mu(self, alpha_min: float = 1e-10) -> Certified:
        """See `PrivacyProfile`."""
        require_open("alpha_min", alpha_min, 0.0, 0.5)
        return Certified(*self._curves.curve(levels_down_to(alpha_min), "worst").mu(alpha_min), "upper")

    def reconstruction(self, prior: float) -> Certified:
        """See `PrivacyProfile`."""
        require_open("prior", prior, 0.0, 1.0)
        return self.power(prior, "remove")

    def group(self, size: int) -> "LossProfile":
        """See `PrivacyProfile`."""
        require_steps(size, "size")
        if size == 1:
            return self
        group = copy(self)
        group._curves, group._single, group._plans = GroupCurves(self._curves, size), None, None
        group._contour = None
        return group

    def bounds(self, epsilons: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See `PrivacyProfile`."""
        side = self._curves.curve(tuple(range(LEVELS // 2)), "worst").steep
        upper = side.uppers(epsilons)
        return np.minimum(side.lower(epsilons), upper), upper

    def approximate_gdp(self, failure: float) -> float:
        """See `PrivacyProfile`."""
        require_open("failure", failure, 0.0, 1.0)
        side = self._curves.curve(levels_down_to(failure), "worst").steep
        if side.upper[-1] > failure:
            return math.inf
        needed = np.append(np.maximum(side.upper - failure, 0.0), 0.0)
        return covering_mu(np.arange(len(needed), dtype=np.float64) * side.grid, needed)

    def renyi(self, order: float) -> float:
        """See `PrivacyProfile`; exact at whole orders of sampled Gaussians, a chord between them."""
        require_open("order", order, 1.0, math.inf)
        if self._plans is None:
            return math.inf
        return max(sum(times * renyi_divergence(loss, order) for loss, times in plan) for plan in self._plans)

    def _at_once(self, epsilon: float, direction: Direction) -> float:
        """delta of a single release: P(L > e) - e^e Q(L > e) for removal, the same of -L under Q for addition."""
        assert self._single is not None
        removal = math.exp(min(0.0, float(self._single.masses(np.array([epsilon, math.inf])).above[0])))
        below = float(self._single.masses(np.array([-math.inf, -epsilon])).below[0])
        addition = math.exp(min(0.0, below + epsilon))
        return {"remove": removal, "add": addition, "worst": max(removal, addition)}[direction]

    def _by_contour(
        self, ask: "Callable[[Contour, Order], tuple[float, float] | None]", direction: Direction
    ) -> Certified | None:
        """What the contour integral says of both orders or the one asked for; None where it is silent."""
        if self._contour is None:
            return None
        orders: tuple[Order, ...] = ("remove", "add") if direction == "worst" else (direction,)
        found = [ask(self._contour, order) for order in orders]
        if None in found:
            return None
        lower, upper = (max(bounds[side] for bounds in found if bounds is not None) for side in (0, 1))
        return Certified(lower, upper, "upper")

    def _for(self, alpha: float | Alphas, direction: Direction) -> tuple[FloatArray, Curve]:
        alphas = require_alphas(alpha)
        return alphas, self._curves.curve(levels_down_to(alphas[alphas > 0].min(initial=1.0)), direction)


def _contour_of(plans: Sequence[Sequence[Release]]) -> Contour | None:
    """The contour integral for a single plan of sampled Gaussians."""
    if len(plans) > 1:
        return None
    parts = [
        (release.loss.noise_multiplier, release.loss.rate, release.times)
        for release in plans[0]
        if isinstance(release.loss, GaussianLoss)
    ]
    return Contour(parts) if len(parts) == len(plans[0]) else None


def _both(one: Certified, other: Certified | None) -> Certified:
    """Bounds that hold by two proofs at once."""
    if other is None:
        return one
    lower, upper = max(one.lower, other.lower), min(one.upper, other.upper)
    return Certified(min(lower, upper), upper, "upper")


def _smallest(delta_at: Callable[[float], float], delta: float, span: tuple[float, float]) -> float:
    """Smallest epsilon >= 0 with delta(epsilon) <= delta, by bisection, rounded up; infinite if there is none."""
    if delta_at(0.0) <= delta:
        return 0.0
    low, high = 0.0, max(abs(span[0]), abs(span[1])) * (1 + 1e-9) + 1e-9
    if delta_at(high) > delta:
        return math.inf
    while high - low > 1e-14 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if delta_at(middle) > delta else (low, middle)
    return float(high) * (1 + 1e-12)
