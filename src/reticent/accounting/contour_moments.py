"""Moments of sampled Gaussian steps on a line of complex orders, with a bound on every error.

In u = x / sigma, with mu = 1 / sigma and r = 1 - q + q e^(mu u - mu^2/2), a step has
M(c + i w) = Int phi(u) r^p e^(i w log r) X(u) du, p = 1 + c, when a record is removed, and the conjugate of the same
with p = -c when it is added. X(u) = Phi((B - u) sqrt(a - 1)), which is 1 for a = 1 and else leaves out outcomes near
and beyond B: they may outweigh all others in M, though too rare to matter to delta.

At height Im u = v in [0, pi sigma), r(Re u) cos(mu v / 2) <= |r| <= r(Re u), 0 <= arg r <= mu v, and |X| <= X(Re u)
e^((a - 1) v^2/2). So for w >= 0 the integrand is analytic there, in modulus at most its value at Re u and w = 0 times
G(v) = e^(a v^2/2) cos(mu v / 2)^min(p, 0), whatever w is: nodes at a positive height serve every w.
"""

import math
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Array = npt.NDArray[Any]  # float or complex
Direction = Literal["remove", "add"]

ROUND = 16 * 2.0**-53  # allowance for an elementary function and a few operations
# Most nodes in u, and products of a node and a term. An ArithmeticError tells that these, or a bound
# on an error, would be too large: delta cannot be certified at reasonable cost.
NODES, WORK = 20_000, 3e8


class Steps:
    """T equal steps at one tilt; M by the trapezoidal rule in u.

    A sum of step k over nodes at height h errs by at most 1 / (e^(2 pi h / k) - 1) + G(t) / (e^(2 pi (t - h) / k) - 1)
    times M(c) for any t in (h, pi sigma), whatever w is: shift its Fourier modes to the heights 0 and t.
    """

    def __init__(
        self, sigma: float, q: float, steps: int, direction: Direction, level: float, tilt: float, bend: float
    ) -> None:
        """`bend` is a, chosen here if 0; the T steps leave out a probability of at most e^(`level` - 28)."""
        self.mu, self.q, self.steps = 1 / sigma, q, steps
        self.power, self.sign = (1 + tilt, 1.0) if direction == "remove" else (-tilt, -1.0)
        self.depth = 40 + math.log(steps)  # minus the log of the quadrature error wanted, against M(c)
        rare = 2 * (28 - level + math.log(steps))
        rarest = max(math.sqrt(rare), self.mu + math.sqrt(max(0.0, rare + 2 * math.log(q))))
        self.cut, self.bend = 1.061 * rarest, 1.0 if direction == "add" else bend
        low, high, log_tails = self._range()
        self.narrow = math.sqrt(self.bend + max(0.0, -self.power) * self.mu**2 / 4)  # G(v) is about e^((narrow v)^2/2)
        tops = min(0.98 * math.pi / self.mu, 15 / self.narrow) * np.linspace(0.04, 1, 25)
        growth = self._growth(tops)
        heights = np.minimum(tops * self.depth / (2 * self.depth + growth), 1.25 / self.narrow)
        widths = 2 * math.pi * np.minimum(heights / self.depth, (tops - heights) / (self.depth + growth))
        self.step, self.height = float(widths.max()), float(heights[np.argmax(widths)])
        count = math.ceil((high - low) / self.step) + 1
        if not count <= NODES:
            raise ArithmeticError
        self.nodes = low + self.step * np.arange(count)
        loss, unsure = self._loss(self.nodes)
        exponent = self.power * loss - self.nodes**2 / 2 + self._log_kept(self.nodes)
        peak = float(exponent.max())
        weights = np.exp(exponent - peak)
        self.log_total = peak + math.log(float(weights.sum()))
        weights /= weights.sum()
        self.tails = math.exp(min(9.0, log_tails - self.log_total - math.log(self.step)))
        rounding = ROUND * float(2 + weights @ self._sensitivity(self.nodes, unsure) + abs(peak))
        self.relative = 2 * (rounding + self.tails + 2 * math.exp(-2 * self.depth))  # of M(c)
        if not self.relative < 0.1:
            raise ArithmeticError
        self.cumulant = steps * (self.log_total + math.log(self.step / math.sqrt(2 * math.pi)))
        self.cumulant_error = steps * self.relative + ROUND * abs(self.cumulant)
        mean = float(weights @ loss)
        self.mean = self.sign * steps * mean
        self.variance = steps * float(weights @ (loss - mean) ** 2)

    def _loss(self, u: Array) -> tuple[Array, FloatArray]:
        return _log_ratio(self.mu * u - self.mu**2 / 2, self.q, self.mu * np.abs(u) + self.mu**2 / 2)

    def _log_kept(self, u: Array) -> Array:
        """log X(u), for real or complex u."""
        from scipy.special import erfc, erfcx, log_ndtr  # not above: accounting is to import in well under a second

        if self.bend == 1:
            return np.zeros(u.shape)
        z = (u - self.cut) * math.sqrt((self.bend - 1) / 2)
        if not np.iscomplexobj(u):
            return np.asarray(log_ndtr(-math.sqrt(2) * z))
        beyond = np.where(z.real > 0, z, 0)
        return np.asarray(np.log(np.where(z.real > 0, erfcx(beyond), erfc(z - beyond)) / 2) - beyond**2)

    def _sensitivity(self, u: Array, unsure: FloatArray) -> FloatArray:
        """Relative rounding error of phi r^p X, in units of ROUND; the error function may err by 1e-13."""
        near = np.maximum((u.real - self.cut) * math.sqrt(self.bend - 1) + 10, 0) * (self.bend > 1)
        return np.asarray(1 + np.abs(u) ** 2 + abs(self.power) * unsure + 100 * (near > 0) + near**2)

    def _growth(self, height: Array | float) -> Array:
        """log G(height)."""
        shrinkage = np.log(np.cos(self.mu * height / 2))
        return np.asarray(self.bend * np.square(height) / 2 + min(self.power, 0.0) * shrinkage)

    def _range(self) -> tuple[float, float, float]:
        """Ends of the nodes, and the log of a bound on sqrt(2 pi) Int phi r^p X outside them.

        log r is convex, with slopes in [0, mu]: beyond an end, -u^2/2 + p log r is at most the tangent of -u^2/2 plus p
        times log r continued with its steepest slope there. For p > 0 its chord to a farther end is steep enough.
        """
        p, mu = self.power, self.mu
        ends = 8 * 1.1 ** np.arange(math.ceil(math.log(abs(p) * mu / 8 + 10) / math.log(1.1)) + 1)
        right, left, middle = self._loss(ends)[0], self._loss(-ends)[0], np.linspace(-8, 8, 65)
        right_value, left_value = p * right - ends**2 / 2, p * left - ends**2 / 2
        top = float(max(0, np.max(p * self._loss(middle)[0] - middle**2 / 2), left_value.max()))
        inside = float(np.max(right_value, where=ends <= self.cut, initial=top))
        bump = p * (p - 1) * mu**2 / 2 + p * math.log(self.q) if p * mu > self.cut else -math.inf  # log q^p E e^(p z)
        if self.bend < 1:
            beyond = np.geomspace(0.01, abs(p) * mu + 80, 100)
            excess = p * self._loss(self.cut + beyond)[0] - (self.cut + beyond) ** 2 / 2 - inside - 3
            steepness = float(np.clip(1 + 2.2 * np.max(excess / beyond**2), 9, 1e4))
            small = max(bump, float(right_value.max())) < inside - 14 - math.log(self.steps)
            self.bend = 1.0 if small else steepness
        right_value += self._log_kept(ends)
        top = max(inside, float(right_value.max()), bump if self.bend == 1 else 0.0)
        goal = top - self.depth
        slopes = np.asarray(ends + min(p, 0.0) * mu * self.q * np.exp(-mu * ends - mu**2 / 2 - left))
        low, low_tail = _first(left_value, slopes, goal)
        steep = ends + (self.bend - 1) * np.maximum(ends - self.cut, 0)
        slopes = steep - max(p, 0.0) * mu
        high, high_tail = _first(right_value, slopes, goal)
        if p > 0:
            slopes[:high] = steep[:high] - p * (right[high] - right[:high]) / (ends[high] - ends[:high])
            high, near_tail = _first(right_value[: high + 1], slopes[: high + 1], goal)
            high_tail = float(np.logaddexp(near_tail, high_tail))
        return -float(ends[low]), float(ends[high]), float(np.logaddexp(low_tail, high_tail))

    def decay(self, frequency: float) -> float:
        """log of a bound on |M(c + i w) / M(c)|^T for every w >= `frequency`.

        |M(c + i w)| <= e^(a y^2/2) Int phi |r|^p X e^(-w arg r) at any height y, which falls as w grows. As a function
        of u the integrand continues to heights v with |v| + y <= pi sigma / 2, and is at most phi r^p X G(y + |v|).
        """
        loss, unsure, widest, heights, error = self._heights
        slack = ROUND * (unsure + frequency * widest) + self.relative
        exponent = self.power * loss.real - frequency * loss.imag - self.nodes**2 / 2 - self.log_total
        exponent += self._log_kept(self.nodes)
        bound = np.exp(self.bend * heights**2 / 2) * np.exp(exponent).sum(axis=1) + error
        return self.steps * math.log(float(bound.min()) * (1 + 2 * slack)) if slack < 0.1 else math.inf

    @cached_property
    def _heights(self) -> tuple[Array, float, float, FloatArray, FloatArray]:
        heights = min(math.pi / 4 / self.mu, 4 / self.narrow) * 1.8 ** -np.arange(16.0)
        strips = np.minimum(math.pi / 2 / self.mu - heights, 4 / self.narrow)
        loss, unsure = self._loss(self.nodes + 1j * heights[:, None])
        error = 2 * np.exp(self._growth(heights + strips)) / np.expm1(2 * math.pi * strips / self.step)
        error += self.tails * np.exp(self._growth(heights))
        return loss, float(self._sensitivity(self.nodes, unsure).max()), float(unsure.max()), heights, error

    def powers(self, spacing: float, count: int) -> FloatArray:
        """Log modulus, phase, error of these and largest log modulus of (M(s) / M(c))^T at w = `spacing` * 1..`count`.

        M(s) - M(c) = sum_j t_j (e^(i w l_j) - 1), and e^(i (v + w) l) - 1 = DE + D + E with D, E those of v and w.
        """
        block = count + 1 if len(self.nodes) * count <= 5e5 else math.isqrt(count) + 1
        if not len(self.nodes) * max(count, 1e2 * block) <= WORK:
            raise ArithmeticError
        nodes = self.nodes + 1j * self.height
        loss, unsure = self._loss(nodes)
        weights = np.exp(self.power * loss - nodes**2 / 2 + self._log_kept(nodes) - self.log_total)
        fine = np.expm1(1j * spacing * np.arange(block)[:, None] * loss)
        coarse = np.expm1(1j * (spacing * block) * np.arange(count // block + 1)[:, None] * loss) * weights
        products = coarse @ fine.T if block <= count else 0
        z = (products + coarse.sum(axis=1)[:, None] + fine @ weights).ravel()[1 : count + 1]

        spread = np.abs(weights) * unsure
        each = len(loss) * 2.0**-51 + 4 * ROUND * self._sensitivity(nodes, unsure)
        rate = float(spread @ each * (3 if block <= count else 1) + spread.sum() * self.relative)
        quadrature = 2 * (2.1 * math.exp(-self.depth) + self.tails * math.exp(self._growth(self.height)))
        error = rate * spacing * np.arange(1, count + 1) + 1.2 * quadrature + ROUND * (np.abs(z) + np.abs(z) ** 2)
        modulus = np.abs(1 + z)
        logarithm = _log1p(np.where(modulus > 0, z, 0))
        relative = np.divide(error, modulus - error, out=np.full(count, math.inf), where=modulus > 2 * error)
        return self.steps * np.stack([logarithm.real, self.sign * logarithm.imag, relative, np.log(modulus + error)])


def _first(values: FloatArray, slopes: FloatArray, goal: float) -> tuple[int, float]:
    """The first end whose tail, e^value / slope, is at most e^goal, and the log of that tail."""
    log_tails = np.where(slopes > 0, values - np.log(np.where(slopes > 0, slopes, 1)), math.inf)
    small = np.flatnonzero(log_tails <= goal)
    if not len(small):
        raise ArithmeticError
    return int(small[0]), float(log_tails[small[0]])


def _log1p(z: Array) -> Array:
    """log(1 + z), as if of a z that is wrong by at most ROUND (|z| + |z|^2)."""
    if not np.iscomplexobj(z):
        return np.asarray(np.log1p(z))
    square = 2 * z.real + z.real**2 + z.imag**2
    size = np.where(square > -0.5, np.log1p(np.maximum(square, -0.5)) / 2, np.log(np.abs(1 + z)))
    return np.asarray(size + 1j * np.arctan2(z.imag, 1 + z.real))


def _log_ratio(z: Array, q: float, spread: Array) -> tuple[Array, FloatArray]:
    """log(1 - q + q e^z), and the size against which its rounding error is ROUND, for z wrong by ROUND * `spread`."""
    log_odds = math.log((1 - q) / q) if q < 1 else -math.inf
    turn = 2 - math.log(q) if q < 0.5 else log_odds
    small = z.real < turn
    near, far = q * np.expm1(np.where(small, z, 0)), np.exp(log_odds - np.where(small, max(turn, 0.0), z))
    loss = np.where(small, _log1p(near), z + math.log(q) + _log1p(far))
    near_unsure = (np.abs(near) + np.abs(near) ** 2 + np.abs(near + q) * spread) / np.abs(1 + near)
    far_unsure = 1.5 * spread - math.log(q) + 2 * np.abs(far) / np.abs(1 + far)
    return loss, np.abs(loss) + np.where(small, near_unsure, far_unsure)
