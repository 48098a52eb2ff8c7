"""delta(epsilon) of composed Poisson-sampled Gaussian steps by the contour formula, with a two-sided error bound.

With s = c + i w on a line of any tilt c > 0 and K the cumulant generating function of the composed privacy loss,
delta(epsilon) = 1/(2 pi) Int e^(K(s) - s epsilon) / (s (s + 1)) dw (Alghamdi et al., "The saddle-point method in
differential privacy", ICML 2023).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from reticent.accounting.contour_moments import ROUND, Direction, FloatArray, Steps

TERMS = 400_000  # most terms on a line; beyond, an ArithmeticError tells that delta is not certified at reasonable cost

_At = Callable[[float, float], list[Steps]]  # all the steps, for a tilt and a constant a, or 0 to choose it


class _Line:
    """The contour of one tilt c, discretised.

    By Poisson summation the trapezoidal sum of step 2 pi / A is exactly sum_k delta(epsilon + k A) e^(c k A) over the
    integers k. As e^(-b y) (1 - e^(-y)) <= b^b / (1 + b)^(1 + b), delta(x) is at most e^(K(b) - b x) times that for any
    b >= 0: with b > c this bounds the terms k > 0, with b < c those k < 0.
    """

    def __init__(self, at: _At, tilt: float, level: float, epsilons: FloatArray) -> None:
        parts, self.tilt = at(tilt, 0.0), tilt
        self.bend = max(part.bend for part in parts)
        if self.bend > 1:  # enough for the higher orders that bound the other periods too
            reach = 6 / math.sqrt(sum(part.variance for part in parts))
            self.bend = max(part.bend for part in at(tilt + reach, 0.0))
            parts = at(tilt, self.bend)
        self.left_out = 1.01 * len(parts) * math.exp(level - 28) if self.bend > 1 else 0.0
        self.cumulant = sum(part.cumulant for part in parts)
        self.cumulant_error = sum(part.cumulant_error for part in parts)
        self.deviation = math.sqrt(sum(part.variance for part in parts))
        self.centre, self.log_estimate, _ = _saddle_estimate(parts, tilt)
        self._choose_period(at, float(np.max(np.abs(epsilons - self.centre), initial=0)))
        goal = -37 - math.log1p(tilt * self.deviation)
        last = 5 / self.deviation
        while sum(part.decay(last) for part in parts) > goal:
            last *= 1.2
            if last > TERMS * self.spacing:
                raise ArithmeticError
        count = math.ceil(last / self.spacing)
        self.frequencies = w = self.spacing * np.arange(1, count + 1)
        kernel = math.log(tilt) + math.log1p(tilt) - np.log(np.hypot(tilt, w)) - np.log(np.hypot(1 + tilt, w))
        size, phase, relative, bound = np.sum([part.powers(self.spacing, count) for part in parts], axis=0)
        self.phase = phase - np.arctan2(w, tilt) - np.arctan2(w, 1 + tilt)
        self.size = np.exp(size + kernel)
        relative = relative + ROUND * (32 + np.abs(size) + np.abs(self.phase))
        close = relative < 0.5
        far_error = self.size + 1.001 * np.exp(bound + kernel)
        error = np.where(close, self.size * np.expm1(np.where(close, relative, 0)), far_error)
        rest = math.exp(goal) * min(tilt * (1 + tilt) / last, math.pi / 2 * math.sqrt(tilt * (1 + tilt))) / self.spacing
        self.error = 2 * (float(error.sum()) + 1.001 * rest + 2.0**-52 * count * float(self.size.sum()))

    def _choose_period(self, at: _At, width: float) -> None:
        c = self.tilt
        offsets = np.array([0.25, 0.5, 1, 2, 4, 6, 8.5, 12]) / self.deviation
        self.orders = np.concatenate([[0.0, c / 4, c / 2], (c - offsets)[offsets < 0.9 * c], c + offsets])
        self.log_bounds = np.array([_log_largest(at, float(b), self.bend) for b in self.orders])
        distance = np.abs(self.orders - c)
        needed = (self.log_bounds - self.orders * self.centre - self.log_estimate + 35) / distance
        period = max(*(needed[side].min() for side in (self.orders < c, self.orders > c)), self.deviation) + width
        if not math.isfinite(period):
            raise ArithmeticError
        self.spacing = 2 * math.pi / float(period)
        self.log_bounds -= distance * period + np.log(-np.expm1(-distance * period))

    def deltas(self, epsilons: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Bounds on delta at each epsilon."""
        c = self.tilt
        value = 1 + 2 * np.array([np.cos(self.phase - at * self.frequencies) @ self.size for at in epsilons])
        error = self.error + ROUND * (1 + 2 * np.abs(epsilons) * float(self.frequencies @ self.size))
        log_scale = self.cumulant - c * epsilons + math.log(self.spacing / (2 * math.pi * c)) - math.log1p(c)
        slack = self.cumulant_error + ROUND * (32 + abs(self.cumulant) + np.abs(c * epsilons))
        others = self.log_bounds - epsilons[:, None] * self.orders
        log_others = np.logaddexp(others[:, self.orders < c].min(axis=1), others[:, self.orders > c].min(axis=1))
        others = 1.001 * np.exp(np.minimum(log_others - log_scale + slack, 100))
        scale = np.exp(np.minimum(log_scale, 600))  # where this is less, the upper bound is 1 all the same
        lower = scale * np.exp(-slack) * np.maximum(value - error - others, 0)
        upper = scale * np.exp(slack) * np.maximum(value + error, ROUND) + self.left_out
        return lower, np.minimum(np.nextafter(upper, 2), 1)

    def bracket(self, delta: float) -> tuple[float, float]:
        """Epsilons >= 0 on both sides of the root of delta(epsilon) = `delta`, after Newton steps on log delta."""
        at, nearby = self.centre, 1e-5 * self.deviation
        for _ in range(20):
            lower, upper = self.deltas(np.array([at, at + nearby]))
            if not 0 < lower[1] < lower[0]:
                raise ArithmeticError
            excess = np.log(lower + upper) - math.log(2 * delta)
            slope = float(excess[0] - excess[1]) / nearby
            at += float(excess[0]) / slope
            if abs(excess[0]) < 1e-11:
                break
        margin = 2 * float(upper[0] / lower[0] - 1) / slope + 1e-15 * abs(at)
        for _ in range(20):
            lower, upper = self.deltas(np.array([at - margin, at + margin]))
            if lower[0] >= delta >= upper[1]:
                return max(0.0, at - margin), max(0.0, at + margin)
            margin *= 4
        raise ArithmeticError


class Contour:
    """The composition of (noise multiplier, sampling rate, steps) parts."""

    def __init__(self, parts: Sequence[tuple[float, float, int]]) -> None:
        if not parts:
            raise ValueError("parts are needed")
        self.parts: dict[tuple[float, float], int] = {}
        for sigma, q, steps in parts:
            if not (0 < sigma < math.inf and 0 < q <= 1 and steps >= 1):
                raise ValueError(f"sigma > 0, 0 < q <= 1 and steps >= 1 are needed, not {sigma, q, steps}")
            self.parts[sigma, q] = self.parts.get((sigma, q), 0) + steps

    def delta(self, epsilon: float, direction: Direction = "remove") -> tuple[float, float] | None:
        """Lower and upper bound on delta(epsilon), or None where they cannot be certified at reasonable cost."""
        largest = sum(-math.log1p(-q) * steps if q < 1 else math.inf for (_, q), steps in self.parts.items())
        if direction == "add" and epsilon > largest * (1 + 1e-12):
            return 0.0, 0.0  # the loss -log r of a step is at most -log(1 - q)

        def attempt(bend: float) -> tuple[float, float]:
            level, estimate = 0.0, -20.0
            while estimate < level - 5 and level > -700:  # what may be left out depends on delta
                level = max(estimate, -700.0)
                at = partial(self._at, direction, level, bend)
                tilt, estimate = _root(at, lambda c, centre, _, curvature: (centre - epsilon) / (c * curvature))
            lower, upper = _Line(at, tilt, level, np.array([epsilon])).deltas(np.array([epsilon]))
            return float(lower[0]), float(upper[0])

        return _narrowest(attempt)

    def deltas(
        self, epsilons: FloatArray, tilt: float, direction: Direction = "remove", smallest: float = 1e-20
    ) -> tuple[FloatArray, FloatArray] | None:
        """Bounds on delta at several epsilons from one contour, or None; tight near the epsilon whose saddle is `tilt`.

        What is left out has a probability of at most 1e-12 times `smallest`, for each part.
        """
        level = math.log(smallest)
        try:
            with np.errstate(invalid="raise", divide="raise", over="raise"):
                return _Line(partial(self._at, direction, level, 0.0), tilt, level, epsilons).deltas(epsilons)
        except (ArithmeticError, ValueError):
            return None

    def epsilon(self, delta: float, direction: Direction = "remove") -> tuple[float, float] | None:
        """A bracket of the epsilon >= 0 with delta(epsilon) = `delta`, (0, 0) if delta(0) is at most that, or None."""
        if not 0 < delta < 1:
            return (0.0, 0.0) if delta >= 1 else None
        level = math.log(delta)

        def attempt(bend: float) -> tuple[float, float]:
            at = partial(self._at, direction, level, bend)
            tilt, _ = _root(at, lambda c, _, estimate, curvature: (level - estimate) / (c * c * curvature))
            return _Line(at, tilt, level, np.zeros(0)).bracket(delta)

        found = _narrowest(attempt)
        at_zero = self.delta(0.0, direction) if found is None else None
        return (0.0, 0.0) if at_zero and at_zero[1] <= delta else found

    def _at(self, direction: Direction, level: float, usual: float, tilt: float, bend: float) -> list[Steps]:
        parts = self.parts.items()
        return [Steps(sigma, q, steps, direction, level, tilt, bend or usual) for (sigma, q), steps in parts]


def _narrowest(attempt: Callable[[float], tuple[float, float]]) -> tuple[float, float] | None:
    """Bounds without a cut, or the better ones of those and bounds with one if they are wide or fail."""
    best = None
    for bend in (1.0, 0.0):
        try:
            with np.errstate(invalid="raise", divide="raise", over="raise"):
                found = attempt(bend)
        except (ArithmeticError, ValueError):
            continue
        best = found if best is None or found[1] - found[0] < best[1] - best[0] else best
        if best[1] - best[0] <= 1e-8 * best[1]:
            break
    return best


def _root(at: _At, newton: Callable[[float, float, float, float], float]) -> tuple[float, float]:
    """The root c of an increasing function, to a thousandth, and the estimate of log delta at it.

    `newton` makes Newton steps of -log c, from c and its `_saddle_estimate`.
    """
    low, high = -80.0, 80.0
    position = -math.log(sum(part.variance for part in at(1e-6, 0.0))) / 2
    for _ in range(100):
        tilt, estimate = math.exp(position), math.nan
        try:
            centre, estimate, curvature = _saddle_estimate(at(tilt, 0.0), tilt)
            step = -newton(tilt, centre, estimate, curvature)
        except ArithmeticError:
            step = -2.0
        if abs(step) < 1e-3 or high - low < 1e-3:
            return tilt, estimate
        low, high = (position, high) if step > 0 else (low, position)
        position += max(-2.0, min(2.0, step))
        if not low < position < high:
            position = (low + high) / 2
    raise ArithmeticError


def _saddle_estimate(parts: list[Steps], tilt: float) -> tuple[float, float, float]:
    """The epsilon whose saddle is `tilt`, the saddle-point estimate of log delta there, and d epsilon / d tilt."""
    centre = sum(part.mean for part in parts) - 1 / tilt - 1 / (1 + tilt)
    curvature = sum(part.variance for part in parts) + 1 / tilt**2 + 1 / (1 + tilt) ** 2
    log_kernel = -math.log(tilt) - math.log1p(tilt) - math.log(2 * math.pi * curvature) / 2
    return centre, sum(part.cumulant for part in parts) - tilt * centre + log_kernel, curvature


def _log_largest(at: _At, order: float, bend: float) -> float:
    """K(b) + log(b^b / (1 + b)^(1 + b)), from above."""
    if order == 0:
        return 0.0
    try:
        cumulant = sum(part.cumulant + part.cumulant_error for part in at(order, bend))
    except ArithmeticError:
        return math.inf
    return cumulant - order * math.log1p(1 / order) - math.log1p(order)
