"""Random mechanisms over the whole range: no certified value lies on the wrong side of a high-precision reference.

References share nothing with the FFT engine: the closed form of one step; sums over how many steps drew the unit, where
the noise is so small that every step shows it; and the contour integral with its own error bounds. Where none of them
applies, bounds from two grids must overlap.
"""

import math
import multiprocessing

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr, ndtri

from reticent.accounting import Composition, SubsampledGaussian
from reticent.accounting.contour import Contour
from reticent.accounting.gaussian import log_delta

CLOSE = 1e-9  # relative accuracy of the closed forms
TELLING = 0.05  # noise below which every step shows whether it drew the unit, up to e^-200


def one_step(q, s, epsilon):
    log_ratio = math.log1p(math.expm1(epsilon) / q) if epsilon < 600 else epsilon - math.log(q)
    return q * math.exp(float(log_delta(1 / s, log_ratio)))


def drawn_steps(q, s, steps, epsilon):
    """With k draws the loss is N(m, k / s^2), m = (steps - k) log(1-q) + k log q + k / 2 s^2."""
    middle, width = steps * q, 40 * math.sqrt(steps * q * (1 - q)) + 40
    k = np.arange(max(1, math.floor(middle - width)), min(steps, math.ceil(middle + width)) + 1)
    mean = (steps - k) * math.log1p(-q) + k * math.log(q) + k / (2 * s**2)
    deviation = np.sqrt(k) / s
    z = (mean - epsilon) / deviation
    above, shifted = stats.norm.logcdf(z), epsilon - mean + deviation**2 / 2 + stats.norm.logcdf(z - deviation)
    return float(np.sum(stats.binom.pmf(k, steps, q) * np.exp(above) * -np.expm1(np.minimum(shifted - above, 0.0))))


def reference(parts, epsilon):
    """(lower, upper) on delta of removal at epsilon, or None."""
    if len(parts) == 1:
        s, q, steps = parts[0]
        if q == 1:
            truth = math.exp(float(log_delta(math.sqrt(steps) / s, epsilon)))
            return truth * (1 - CLOSE), truth * (1 + CLOSE)
        if steps == 1:
            truth = one_step(q, s, epsilon)
            return truth * (1 - CLOSE), truth * (1 + CLOSE)
        if s <= TELLING and 1 / (2 * s**2) > 20 - math.log(q):
            truth = drawn_steps(q, s, steps, epsilon)
            return truth * (1 - 1e-6) - 1e-40, truth * (1 + 1e-6) + 1e-40
    return Contour(parts).delta(epsilon) if min(s for s, _, _ in parts) > 0.2 else None


def draw(rng):
    def one():
        s, q = 10 ** rng.uniform(-5, 3), min(1.0, 10 ** rng.uniform(-6, 0.1))
        return s, q, int(10 ** rng.choice([0.0, rng.uniform(0, 2), rng.uniform(1, 6)]))

    if rng.random() < 0.6:  # the range in which models are trained
        return [(10 ** rng.uniform(-0.5, 1.5), 10 ** rng.uniform(-4, 0), int(10 ** rng.uniform(1, 4.5)))]
    return [one() for _ in range(1 if rng.random() < 0.8 else 2)]


def violations(seed):
    """What is wrong with the numbers of one random mechanism; (list, whether a reference was at hand)."""
    rng = np.random.default_rng(seed)
    parts = draw(rng)
    mechanisms = [SubsampledGaussian(s, q, steps) for s, q, steps in parts]
    profile = Composition(tuple(mechanisms)).profile(accuracy=1e-2)
    profile._contour = None  # the FFT engine alone is examined
    found, wrong, known = {}, [], False
    delta, alpha = 10 ** rng.uniform(-20, -1), 10 ** rng.uniform(-12, -0.5)
    found["epsilon"], found["power"] = profile.epsilon(delta, "remove"), profile.power(alpha)
    found["beta"], found["mu"] = profile.tradeoff(alpha), profile.mu(1e-10)
    low = found["epsilon"].lower * (1 - 1e-11)  # what is exact is so up to rounding
    at = [found["epsilon"].upper, low, found["epsilon"].upper * rng.uniform(0, 1)]
    at = [epsilon for epsilon in at if math.isfinite(epsilon)]
    found |= {f"delta({epsilon!r})": profile.delta(epsilon, "remove") for epsilon in at}
    for name, value in found.items():
        if not 0 <= value.lower <= value.upper or math.isnan(value.upper):
            wrong.append((name, value, "order"))
    if found["power"].lower < alpha * (1 - 1e-9) - 1e-15 and found["power"].upper < alpha:
        wrong.append(("power", found["power"], "below guessing"))
    for k, epsilon in enumerate(at):
        truth = reference(parts, epsilon)
        if truth is None:
            continue
        known = True
        least, high = truth
        value = found[f"delta({epsilon!r})"]
        if value.upper < least or value.lower > high:
            wrong.append((epsilon, value, truth))
        if k == 0 and least > delta and epsilon == found["epsilon"].upper:
            wrong.append(("epsilon upper", found["epsilon"], truth, delta))
        if k == 1 and high < delta * (1 - 1e-9) and epsilon == low > 0:
            wrong.append(("epsilon lower", found["epsilon"], truth, delta))
        if found["power"].lower > high + math.exp(min(epsilon + math.log(alpha), 1.0)) + 1e-12:
            wrong.append(("power", found["power"], epsilon, truth))
        if epsilon == 0 and 2 * ndtr(found["mu"].upper / 2) - 1 + 1e-9 < least < 1 - 1e-8:
            wrong.append(("mu", found["mu"], truth))
    if not known:
        finer = Composition(tuple(mechanisms)).profile(accuracy=1e-3).epsilon(delta, "remove")
        if finer.lower > found["epsilon"].upper or finer.upper < found["epsilon"].lower:
            wrong.append(("two grids", found["epsilon"], finer))
    return [(seed, parts, *problem) for problem in wrong], known


def test_three_hundred_random_mechanisms_are_on_the_right_side():
    results = [violations(seed) for seed in range(300)]
    assert [problem for problems, _ in results for problem in problems] == []
    assert sum(known for _, known in results) >= 200


@pytest.mark.slow
def test_ten_thousand_random_mechanisms_are_on_the_right_side():
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        results = pool.map(violations, range(1000, 11_000), chunksize=50)
    assert [problem for problems, _ in results for problem in problems] == []
    assert sum(known for _, known in results) >= 6500


def test_references_agree_with_each_other_where_two_apply():
    assert one_step(0.3, 0.04, 100.0) == pytest.approx(drawn_steps(0.3, 0.04, 1, 100.0), rel=1e-9)
    low, high = Contour([(0.5, 0.2, 200)]).delta(30.0)
    assert low <= high <= low * (1 + 1e-6)
    assert float(ndtri(0.5)) == 0.0
