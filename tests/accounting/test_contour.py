"""The contour formula's brackets contain what other methods and higher precision find, and are narrow."""

import itertools
import math

import mpmath
import numpy as np
import pytest
from mpmath import mp, mpf

from reticent.accounting.contour import Contour
from reticent.accounting.contour_moments import Steps, _log_ratio

ROWS = {  # (q, sigma, T), epsilon_remove(1e-5), epsilon_add(1e-5): two independent methods agree on these digits
    "A": (0.01, 1.0, 10000, "6.18771239", "5.61150862"),
    "B": (0.01, 1.0, 1000, "1.828236667", "1.416661948"),
    "C": (0.001, 1.0, 10000, "0.47576129", "0.44002627"),
    "D": (0.001, 0.6, 10000, "2.4561454", "1.1955244"),
    "E": (0.02, 1.1, 3000, "5.87662984", "5.13749489"),
    "F": (256 / 60000, 1.1, 3510, "1.132863322", "1.015602908"),
    "G": (0.32768, 9.4, 2000, "7.4243789", "7.3571778"),
    "H": (0.1, 2.0, 100, "2.337399593", "1.881035711"),
    "I": (0.5, 3.0, 50, "5.62642302", "4.98075784"),
    "J": (0.0038010957846441, 0.5715066078978425, 792, "3.94510272", "1.05220322"),
    "K": (0.032, 1.5, 3000, "6.14809181", "5.68020502"),
    "L": (0.05, 0.8, 10, "2.86256469", "0.405556914"),
    "N": (0.25, 4.0, 500, "6.67878678", "6.37585032"),
}


def agrees(bracket, digits, units=1.5):
    """The bracket lies within so many units in the last place of a printed value."""
    unit = 10.0 ** -len(digits.split(".")[1])
    return bracket is not None and all(abs(bound - float(digits)) <= units * unit for bound in bracket)


def gaussian_delta(mu, epsilon):
    """Balle and Wang (2018), Theorem 8, in mpmath."""
    return mpmath.ncdf(mu / 2 - epsilon / mu) - mpmath.exp(epsilon) * mpmath.ncdf(-mu / 2 - epsilon / mu)


def one_step_delta(q, sigma, epsilon):
    """delta of one sampled step when a record is removed, at any real epsilon."""
    odds = 1 + (np.exp(epsilon) - 1) / q
    if odds <= 0:
        return 1 - math.exp(epsilon)
    with mp.workdps(30):
        return float(q * gaussian_delta(1 / mpf(sigma), mpmath.log(mpf(odds))))


@pytest.mark.parametrize("row", ROWS)
def test_epsilon_at_1e_5_has_the_digits_two_other_methods_agree_on(row):
    q, sigma, steps, remove, add = ROWS[row]
    contour = Contour([(sigma, q, steps)])
    for digits, direction in ((remove, "remove"), (add, "add")):
        found = contour.epsilon(1e-5, direction)
        assert agrees(found, digits)
        assert found[1] - found[0] <= 1e-8 * found[1]


@pytest.mark.parametrize(
    ("row", "delta", "digits", "width"),
    [
        ("A", 1e-8, "8.185122968", 1e-9),
        ("A", 1e-10, "9.316138526", 1e-9),
        ("A", 1e-12, "10.34668984", 1e-9),
        ("A", 1e-20, "13.87977272", 1e-9),
        ("A", 1e-50, "24.44449131", 1e-9),
        ("E", 1e-10, "8.957376268", 1e-9),
        ("E", 1e-15, "11.39726751", 1e-9),
        ("C", 1e-12, "1.1844838", 2e-5),  # rare large losses outweigh the others on the line: less is certified
        ("C", 1e-15, "1.8349176", 1e-5),
    ],
)
def test_epsilon_at_small_delta_contains_the_digits_found_by_tilted_convolution(row, delta, digits, width):
    q, sigma, steps, *_ = ROWS[row]
    low, high = Contour([(sigma, q, steps)]).epsilon(delta)
    unit = 1.5 * 10.0 ** -len(digits.split(".")[1])
    assert low - unit <= float(digits) <= high + unit
    assert high - low <= width * high


@pytest.mark.parametrize("mu", [0.1, 0.5, 2.0, 10.0])
@pytest.mark.parametrize("steps", [1, 30, 4000])
def test_full_batch_brackets_contain_the_closed_form_and_are_narrow(mu, steps):
    sigma = math.sqrt(steps) / mu
    with mp.workdps(40):
        exact_mu = mpmath.sqrt(steps) / mpf(sigma)
        for log_delta in (-2, -10, -50):
            epsilon = float(
                mpmath.findroot(lambda e, d=log_delta: mpmath.log(gaussian_delta(exact_mu, e)) - d * 2.3, mu**2)
            )
            for direction in ("remove", "add"):
                low, high = Contour([(sigma, 1.0, steps)]).delta(epsilon, direction)
                assert mpf(low) <= gaussian_delta(exact_mu, mpf(epsilon)) <= mpf(high)
                assert high - low <= (1e-8 if steps > 1 else 1e-4) * high


@pytest.mark.parametrize(("q", "sigma"), [(0.3, 0.7), (0.5, 1.0), (0.9, 5.0)])
def test_two_steps_agree_with_quadrature_over_the_first_of_the_closed_form_of_the_second(q, sigma):
    from scipy.integrate import quad

    def mass_times_delta(u, epsilon):
        ratio = 1 - q + q * math.exp((2 * u * sigma - 1) / (2 * sigma**2))
        density = math.exp(-u * u / 2) / math.sqrt(2 * math.pi) * ratio
        return density * one_step_delta(q, sigma, epsilon - math.log(ratio))

    for epsilon in (0.64, 1.7) if sigma < 5 else (0.1, 0.64):
        # the closed form of the second step has a kink where the ratio is e^epsilon / (1 - q)
        kink = sigma * math.log((math.exp(epsilon) / (1 - q) - 1 + q) / q) + 1 / (2 * sigma)
        points = [-12, *sorted({min(kink, 20), 1 / sigma, 5}), 12 + 2 / sigma]
        pieces = [
            quad(mass_times_delta, *ends, args=(epsilon,), epsabs=0, epsrel=1e-11, limit=200)[0]
            for ends in itertools.pairwise(points)
        ]
        low, high = Contour([(sigma, q, 2)]).delta(epsilon)
        assert low * (1 - 1e-9) <= math.fsum(pieces) <= high * (1 + 1e-9)
        assert high - low <= 1e-7 * high


def test_parts_compose_and_equal_parts_merge():
    parts = [(1.2, 0.01, 500), (1.5, 0.02, 300), (10.0, 1.0, 1)]
    contour = Contour(parts)
    assert agrees(contour.epsilon(1e-5, "remove"), "1.458662175")
    assert agrees(contour.epsilon(1e-5, "add"), "1.271693703")
    low, high = contour.delta(1.0)
    assert low <= 6.28724297e-4 * (1 + 2e-9)
    assert high >= 6.28724297e-4 * (1 - 2e-9)
    split = Contour([(1.2, 0.01, 200), *parts[1:], (1.2, 0.01, 300)])
    assert split.delta(1.0) == (low, high)


def reference_delta(q, sigma, steps, epsilon, tilt, direction, period, terms, digits=30):
    """The contour integral in mpmath: nodes on the real line, twice as dense as that needs for `digits` digits."""
    with mp.workdps(digits + 5):
        mu, q, c = 1 / mpf(sigma), mpf(q), mpf(tilt)
        spacing = 2 * mp.pi / mpf(period)
        width = mp.pi * sigma if mp.pi * sigma < 12 else mpf(12)  # of the strip, with e^(frequency mu width) in it
        top = spacing * terms
        step = mp.pi * width / (mpf(digits + 5) * mp.log(10) + width**2 / 2 + top * mu * width)
        reach = mpf(14)
        power = 1 + c if direction == "remove" else -c
        right = reach + max(power, mpf(0)) * mu
        nodes = [-reach + step * j for j in range(int((right + reach) / step) + 1)]
        losses = [mp.log(1 - q + q * mp.exp(mu * u - mu**2 / 2)) for u in nodes]
        weights = [
            step * mp.exp(power * loss - u**2 / 2) / mp.sqrt(2 * mp.pi) for loss, u in zip(losses, nodes, strict=True)
        ]
        turns = [mp.expj(spacing * loss * (1 if direction == "remove" else -1)) for loss in losses]
        total = mpf(0)
        for n in range(terms + 1):
            s = mp.mpc(c, spacing * n)
            term = mp.exp(steps * mp.log(mp.fsum(weights)) - s * epsilon) / (s * (s + 1))
            total += mp.re(term) * (1 if n else mpf(0.5))
            weights = [weight * turn for weight, turn in zip(weights, turns, strict=True)]
        return total * 2 / period


@pytest.mark.parametrize(
    ("q", "sigma", "steps", "epsilon", "tilt", "direction", "period", "terms"),
    [
        (0.01, 1.0, 10000, 6.0, 2.96, "remove", 30.0, 80),
        (0.01, 1.0, 10000, 5.0, 3.0, "add", 30.0, 80),
        (0.1, 2.0, 100, 2.5, 6.0, "remove", 16.0, 130),
        (0.3, 0.6, 60, 20.0, 0.6, "remove", 300.0, 100),
    ],
)
def test_bracket_contains_the_contour_integral_at_30_digits_and_is_narrow(
    q, sigma, steps, epsilon, tilt, direction, period, terms
):
    reference = reference_delta(q, sigma, steps, epsilon, tilt, direction, period, terms)
    finer = reference_delta(q, sigma, steps, epsilon, tilt, direction, 1.3 * period, int(1.6 * terms), 32)
    assert abs(finer / reference - 1) < 1e-15
    low, high = Contour([(sigma, q, steps)]).delta(epsilon, direction)
    assert mpf(low) <= reference <= mpf(high)
    assert high - low <= 1e-9 * high


def random_settings(count, seed):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        sigma, q = float(10 ** rng.uniform(-0.3, 2)), float(10 ** rng.uniform(-3, -0.05))
        steps, delta = int(10 ** rng.uniform(1.5, 4.5)), float(10 ** rng.uniform(-12, -2))
        yield sigma, q, steps, delta, ("remove", "add")[rng.integers(2)]


def plain_delta(sigma, q, steps, epsilon, tilt, direction, refinement=2):
    """The contour formula with NumPy, on the real line in u, at `refinement` times the resolution it needs."""
    mu = 1 / sigma
    power, sign = (1 + tilt, 1) if direction == "remove" else (-tilt, -1)
    rough = Steps(sigma, q, steps, direction, -30.0, tilt, 1.0)  # only to place the nodes and to scale the line
    deviation = math.sqrt(rough.variance)
    period = refinement * max(24 * deviation, 45 / tilt)
    spacing, last = 2 * math.pi / period, refinement * 25 / deviation
    frequencies = spacing * np.arange(int(last / spacing) + 1)
    strip = min(3.0, 1.5 * sigma) / rough.narrow
    step = 2 * math.pi / refinement / (45 / strip + strip * rough.narrow**2 + last * mu)
    u = np.arange(rough.nodes[0] - 1, rough.nodes[-1] + 1, step)
    loss = _log_ratio(mu * u - mu**2 / 2, q, np.abs(u))[0]
    log_weights = power * loss - u**2 / 2 + math.log(step / math.sqrt(2 * math.pi))
    peak = log_weights.max()
    phases = np.exp(1j * sign * frequencies[:, None] * loss)
    log_moments = np.log(phases @ np.exp(log_weights - peak)) + peak
    s = tilt + 1j * frequencies
    terms = np.exp(steps * (log_moments - log_moments[0].real) - 1j * frequencies * epsilon) / (s * (s + 1))
    total = terms[0].real / 2 + terms[1:].real.sum()
    return total * 2 / period * math.exp(steps * log_moments[0].real - tilt * epsilon)


def test_brackets_of_random_settings_contain_a_plain_evaluation_at_twice_the_resolution():
    certified = 0
    for sigma, q, steps, delta, direction in random_settings(60, seed=3):
        contour = Contour([(sigma, q, steps)])
        found = contour.epsilon(delta, direction)
        if found is None or found == (0.0, 0.0):
            continue
        middle = sum(found) / 2
        assert found[1] - found[0] <= 1e-7 * middle
        (low, high), (beyond, _) = contour.delta(middle, direction), contour.delta(1.001 * middle, direction)
        assert low * (1 - 1e-6) <= delta <= high * (1 + 1e-6)
        tilt = math.log(low / beyond) / (0.001 * middle)
        rough = Steps(sigma, q, steps, direction, -30.0, tilt, 1.0)
        if len(rough.nodes) > 400 or tilt * math.sqrt(rough.variance) > 12:
            continue  # rare large losses outweigh the others on this line: plain arithmetic is not to be trusted
        plain = plain_delta(sigma, q, steps, middle, tilt, direction)
        noise = 1e-13 * steps + 1e-9  # of the plain evaluation; sums of M and its log lose digits that T multiplies
        assert low * (1 - noise) <= plain <= high * (1 + noise)
        certified += 1
    assert certified >= 40


@pytest.mark.parametrize("direction", ["remove", "add"])
def test_one_line_of_many_epsilons_overlaps_the_brackets_of_each_alone(direction):
    contour = Contour([(1.0, 0.01, 10000)])
    epsilons = np.linspace(4.0, 6.0, 21)
    lower, upper = contour.deltas(epsilons, 2.7, direction)
    assert np.all(upper - lower <= 1e-8 * upper)
    for epsilon, low, high in zip(epsilons, lower, upper, strict=True):
        alone = contour.delta(float(epsilon), direction)
        assert max(low, alone[0]) <= min(high, alone[1])


def test_epsilon_and_delta_invert_each_other_and_fall():
    contour = Contour([(0.8, 0.02, 400)])
    brackets = [contour.epsilon(delta) for delta in (1e-3, 1e-5, 1e-8)]
    assert brackets[0][1] < brackets[1][0] < brackets[1][1] < brackets[2][0]
    for (low, high), delta in zip(brackets, (1e-3, 1e-5, 1e-8), strict=True):
        assert contour.delta(low)[1] >= delta >= contour.delta(high)[0]


def test_epsilon_is_zero_when_delta_at_zero_is_less_and_delta_is_one_at_most():
    contour = Contour([(2.0, 0.01, 50)])
    low, high = contour.delta(0.0)
    assert 0 < low <= high < 1
    assert contour.epsilon(1.001 * high) == (0.0, 0.0)
    assert contour.epsilon(0.999 * low)[0] > 0
    assert contour.epsilon(1.0) == (0.0, 0.0)
    assert contour.epsilon(0.0) is None


def test_added_record_loses_at_most_minus_log_of_one_minus_q_per_step():
    largest = -50 * math.log1p(-0.1)
    contour = Contour([(0.5, 0.1, 50)])
    assert contour.delta(1.000001 * largest, "add") == (0.0, 0.0)
    found = contour.delta(0.5 * largest, "add")
    assert found is None or found[1] > 0


@pytest.mark.parametrize("parts", [[(0.05, 1e-4, 1)], [(1e4, 1e-6, 2)], [(0.1, 0.5, 10**6)], [(1.0, 1 - 1e-12, 100)]])
@pytest.mark.parametrize("direction", ["remove", "add"])
def test_hostile_settings_give_ordered_bounds_or_none_and_no_warning(parts, direction):
    contour = Contour(parts)
    with np.errstate(all="raise", under="ignore"):
        for epsilon in (-1.0, 0.0, 1e-8, 1.0, 1e3, 1e6):
            found = contour.delta(epsilon, direction)
            assert found is None or 0 <= found[0] <= found[1] <= 1
        for delta in (1e-300, 1e-50, 1e-5, 0.999):
            found = contour.epsilon(delta, direction)
            assert found is None or 0 <= found[0] <= found[1] < math.inf


@pytest.mark.parametrize("parts", [[], [(0.0, 0.1, 1)], [(1.0, 0.0, 1)], [(1.0, 1.1, 1)], [(1.0, 0.1, 0)]])
def test_impossible_parts_are_refused(parts):
    with pytest.raises(ValueError, match="needed"):
        Contour(parts)


def test_bracket_is_right_and_narrow_where_outcomes_too_rare_to_matter_would_outweigh_the_others():
    sigma, q, steps, epsilon = 2.773, 0.000239, 7870, 0.0439
    uncut = Steps(sigma, q, steps, "remove", -24.0, 700.0, 1.0)
    assert (
        uncut.nodes[uncut.nodes > 50] @ np.ones(np.count_nonzero(uncut.nodes > 50)) > 0
    )  # they are on the saddle's line
    assert uncut.mean > 1e3 * epsilon
    low, high = Contour([(sigma, q, steps)]).delta(epsilon)
    # A tilt too small for them, at which the terms cancel to 1e-8 of the largest: no matter with 24 digits.
    reference = reference_delta(q, sigma, steps, epsilon, 120.0, "remove", 0.6, 120, 24)
    assert mpf(low) <= reference <= mpf(high)
    assert high - low <= 1e-8 * high
