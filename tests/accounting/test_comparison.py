"""Delta-divergence: direction, three equal definitions, the lattice's laws, and published and derived tables.

Values are closed forms with 10 digits; those of DP-SGD were found with another accountant on a grid of 1e-4.
"""

import itertools
import math
import resource
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from reticent.accounting import (
    Composition,
    DiscreteLoss,
    Gaussian,
    Laplace,
    RandomisedResponse,
    SensitivityIndex,
    SubsampledGaussian,
    Unbounded,
    WorstOf,
    bayes_error,
    compare,
    delta_divergence,
    mu_of_laplace,
)
from reticent.accounting.profiles import GaussianProfile
from reticent.errors import InputError

DELTA = 1e-5
CIFAR = SubsampledGaussian(9.4, 0.32768, 2000)


def gaussian(mu):
    return Gaussian(1 / mu)


def gaussian_at(epsilon):
    """The Gaussian mechanism that is (epsilon, 1e-5)-private and no better."""
    return gaussian(SensitivityIndex.from_epsilon_delta(epsilon, DELTA).psi)


def laplace_at(epsilon):
    """The same of Laplace: delta = 1 - e^((epsilon - 1/b) / 2)."""
    return Laplace(1 / (epsilon - 2 * math.log1p(-DELTA)))


def worst_case(epsilon, delta=DELTA):
    """The least private of all (epsilon, delta) mechanisms: with probability delta all is told, else it is randomised
    response: delta(e) = delta + (1 - delta) (e^epsilon - e^e) / (1 + e^epsilon) for e <= epsilon, delta beyond."""
    wrong = (1 - delta) / (1 + math.exp(epsilon))
    return DiscreteLoss((-epsilon, epsilon), (wrong, 1 - delta - wrong), infinite=delta)


def contains(certified, value, last_digit):
    return certified.lower - last_digit <= value <= certified.upper + last_digit


TABLE = {
    "Gaussian mu 1 to 1.2": (gaussian(1), gaussian(1.2), 0.0342844210, 0.0, 0.0),
    "Gaussian mu 0.5 to 1": (gaussian(0.5), gaussian(1), 0.0927561356, 0.0, 0.0),
    "Gaussian mu 1 to 2": (gaussian(1), gaussian(2), 0.1498822848, 0.0, 0.0),
    "Gaussian to Laplace at (1, 1e-5)": (gaussian_at(1), laplace_at(1), 0.1434288836, 0.0, 2.687e-6),
    "Gaussian to Laplace at (2, 1e-5)": (gaussian_at(2), laplace_at(2), 0.2170558279, 0.0, 1.191e-6),
    "Gaussian to Laplace at (4, 1e-5)": (gaussian_at(4), laplace_at(4), 0.2542068221, 0.0, 1.80e-7),
    "Gaussian to Laplace at (8, 1e-5)": (gaussian_at(8), laplace_at(8), 0.1932603227, 0.0, 3.4e-9),
    "Gaussian to worst case of (1, 1e-5)": (gaussian_at(1), worst_case(1), 0.1777524488, 0.0, 0.0),
    "Gaussian to worst case of (8, 1e-5)": (gaussian_at(8), worst_case(8), 0.2020827037, 0.0, 0.0),
    "Laplace to its tight Gaussian": (Laplace(1.0), gaussian(mu_of_laplace(1.0)), 0.0370161113, 1.0, 0.0),
    "Laplace to pure epsilon-DP": (Laplace(1.0), RandomisedResponse(1.0), 0.0343239085, 0.0, 0.0),
}
ROWS = pytest.mark.parametrize(("first", "second", "cost", "at", "gain"), TABLE.values(), ids=TABLE)


@ROWS
def test_the_cost_of_choosing_the_second_is_the_closed_form_to_seven_digits(first, second, cost, at, gain):
    found = delta_divergence(first.profile(), second.profile(), 1e-8)
    assert contains(found.value, cost, 5e-10)
    assert found.value.lower == pytest.approx(cost, abs=1e-8)
    assert found.value.upper == pytest.approx(cost, abs=1e-7)
    assert found.epsilon == pytest.approx(at, abs=1e-3)
    assert found.prior == pytest.approx(math.exp(at) / (1 + math.exp(at)), abs=1e-3)


@ROWS
def test_the_reverse_cost_is_the_tiny_one_of_the_tail_or_none(first, second, cost, at, gain):
    found = compare(first.profile(), second.profile()).first_over_second.value
    assert contains(found, gain, gain * 6e-3)
    assert found.upper <= gain + 4e-5


@ROWS
def test_the_certified_bracket_is_narrow_and_the_verdict_follows_the_direction(first, second, cost, at, gain):
    found = compare(first.profile(), second.profile())
    assert contains(found.second_over_first.value, cost, 5e-10)
    assert found.second_over_first.value.upper - found.second_over_first.value.lower < 1e-4
    assert found.verdict == "the first is at least as private"
    assert compare(second.profile(), first.profile()).verdict == "the second is at least as private"


def test_dp_sgd_summarised_by_one_epsilon_costs_21_7_points():
    found = compare(CIFAR.profile(), worst_case(7.4244).profile())
    assert contains(found.second_over_first.value, 0.21710, 5e-6)
    assert found.verdict == "the first is at least as private"


def test_choosing_more_noise_costs_nothing_and_less_noise_does():
    found = compare(gaussian(1).profile(), gaussian(2).profile())
    assert found.second_over_first.value.lower > 0.149
    assert found.first_over_second.value.lower == 0
    assert found.first_over_second.value.upper <= found.tolerance
    gap = SensitivityIndex(2).advantage - SensitivityIndex(1).advantage
    assert found.second_over_first.value.upper == pytest.approx(gap / 2, abs=1e-4)
    assert [round(value.upper, 6) for value in found.advantages] == [0.382925, 0.682689]


def test_the_least_diagonal_shift_of_the_curve_is_the_same_number():
    mu, scale = 1 / gaussian_at(1).noise_multiplier, math.exp(-1 / laplace_at(1).noise_multiplier)
    y = np.linspace(0, 1, 2_000_001)  # x + k
    f = ndtr(-ndtri(y) - mu)

    def other(x):
        middle = scale / (4 * np.maximum(x, scale / 2))
        return np.where(x < scale / 2, 1 - x / scale, np.where(x <= 0.5, middle, scale * (1 - x)))

    low, high = 0.0, 0.5
    while high - low > 1e-10:
        k = (low + high) / 2
        reached = y >= k
        low, high = (low, k) if (f[reached] - k <= other(y[reached] - k)).all() else (k, high)
    assert high == pytest.approx(0.1434288836, abs=1e-7)
    assert contains(delta_divergence(gaussian_at(1).profile(), laplace_at(1).profile(), 1e-8).value, high, 1e-7)


@pytest.mark.parametrize(("prior", "error"), [(0.1, 0.0986636939), (0.5, 0.3085375387)])
def test_the_bayes_error_of_the_unit_gaussian_is_its_closed_form(prior, error):
    for value in (prior, 1 - prior):  # the curve is symmetric
        assert bayes_error(gaussian(1).profile(), value).safe == pytest.approx(error, abs=5e-11)


@pytest.mark.parametrize(
    ("first", "second"),
    [(gaussian(1), gaussian(1.2)), (gaussian_at(1), laplace_at(1)), (Laplace(1.0), gaussian(mu_of_laplace(1.0)))],
)
def test_the_largest_drop_of_the_bayes_error_over_all_priors_is_the_same_number(first, second):
    kink = math.e / (1 + math.e)  # of Laplace(1)
    priors = np.append(np.linspace(0, 1, 2003)[1:-1], kink)
    profiles = (first.profile(), second.profile())
    errors = [np.array([bayes_error(profile, prior).safe for prior in priors]) for profile in profiles]
    found = delta_divergence(*profiles, 1e-8)
    drops = errors[0] - errors[1]
    assert contains(found.value, drops.max(), 1e-6)
    assert bayes_error(profiles[0], found.prior).upper - bayes_error(profiles[1], found.prior).lower == pytest.approx(
        found.value.lower, abs=1e-6
    )


@cache
def ten_profiles():
    generator = np.random.default_rng(38)
    mus, scales, epsilons = (generator.uniform(0.3, 2.5, 3) for _ in range(3))
    mechanisms = [gaussian(mu) for mu in mus] + [Laplace(scale) for scale in scales]
    mechanisms += [worst_case(epsilon, 1e-3) for epsilon in epsilons] + [Laplace(2.0, steps=5)]
    return [mechanism.profile() for mechanism in mechanisms]


@cache
def divergence(one, other):
    return delta_divergence(ten_profiles()[one], ten_profiles()[other], 1e-5).value


@pytest.fixture
def two_gigabytes():
    """Ends a comparison that divides its intervals without end before the machine does."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**31, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.usefixtures("two_gigabytes")
@pytest.mark.parametrize("index", range(10))
@pytest.mark.parametrize("tolerance", [1e-3, 1e-4, 1e-5])
def test_a_mechanism_is_equal_to_itself(index, tolerance):
    found = compare(ten_profiles()[index], ten_profiles()[index], tolerance)
    assert found.symmetric.lower == 0
    assert found.symmetric.upper <= tolerance
    assert found.verdict == "equal"


@pytest.mark.usefixtures("two_gigabytes")
@pytest.mark.parametrize("tolerance", [1e-4, 1e-6])
def test_the_bracket_is_as_narrow_as_was_asked_for(tolerance):
    value = delta_divergence(gaussian(1).profile(), Laplace(1.0).profile(), tolerance).value
    assert value.upper - value.lower <= tolerance
    value = delta_divergence(gaussian(1).profile(), gaussian(1).profile(), tolerance).value
    assert value.upper - value.lower <= tolerance


@pytest.mark.parametrize("steps", [1, 3])
def test_delta_stays_at_the_mass_that_tells_all_beyond_the_last_finite_loss(steps):
    profile = DiscreteLoss((-1.0, 1.0), worst_case(1, 0.01).probabilities, infinite=0.01, steps=steps).profile()
    lower, upper = profile.bounds(np.array([1.5, 3.5, 20.0])[steps // 2 :])
    truth = 1 - 0.99**steps
    assert lower == pytest.approx(truth, rel=1e-6)
    assert upper == pytest.approx(truth, rel=1e-6)


@pytest.mark.usefixtures("two_gigabytes")
def test_the_symmetric_divergence_is_symmetric():
    for one, other in itertools.pairwise(range(10)):
        there, back = (compare(ten_profiles()[a], ten_profiles()[b]) for a, b in ((one, other), (other, one)))
        assert there.symmetric == back.symmetric
        assert there.second_over_first == back.first_over_second


@pytest.mark.usefixtures("two_gigabytes")
def test_the_directed_divergence_obeys_the_triangle_inequality():
    for first, middle, last in itertools.permutations(range(10), 3):
        detour = divergence(first, middle).upper + divergence(middle, last).upper
        assert divergence(first, last).lower <= detour + 1e-9


def test_binning_the_output_never_makes_a_gaussian_more_vulnerable():
    mu, edges = 1.0, np.array([-math.inf, -1.5, -0.8, -0.2, 0.4, 1.0, 1.7, 2.3, math.inf])
    present, absent = np.diff(ndtr(edges - mu)), np.diff(ndtr(edges))
    order = np.argsort(present / absent)
    binned = DiscreteLoss(tuple(np.log(present / absent)[order]), tuple(present[order]))
    found = compare(gaussian(mu).profile(), binned.profile())
    assert found.second_over_first.value.lower == 0
    assert found.second_over_first.value.upper <= found.tolerance
    assert found.first_over_second.value.lower > 0.003
    assert found.verdict == "the second is at least as private"


def test_of_several_mechanisms_the_worst_is_at_least_as_bad_as_each():
    parts = (SubsampledGaussian(1.5, 0.05, 200), SubsampledGaussian(4.0, 0.5, 100))
    worst = WorstOf(parts).profile()
    for part in parts:
        found = compare(worst, part.profile())
        assert found.second_over_first.value.upper <= found.tolerance
        assert found.verdict in ("the second is at least as private", "equal")


COMPOSED = {  # D(Gaussian || Laplace), D(Laplace || Gaussian) after 1, 2, 3, 5, 10 releases of mu each and Laplace(1)
    0.90: ((0.02309, 0.02507), (0.00388, 0.01365), (0.00171, 0.00901), (0.0, 0.00613), (0.0, 0.00574)),
    0.95: ((0.01413, 0.02950), (0.0, 0.02504), (0.0, 0.01815), (0.0, 0.01661), (0.0, 0.01656)),
    0.80: ((0.04131, 0.01699), (0.02280, 0.00503), (0.02805, 0.00131), (0.02486, 8.0e-5), (0.01986, 1.8e-7)),
}
COMPOSED_ROWS = [
    (mu, steps, *values) for mu, row in COMPOSED.items() for steps, values in zip((1, 2, 3, 5, 10), row, strict=True)
]


@pytest.mark.parametrize(("mu", "steps", "costs", "gains"), COMPOSED_ROWS)
def test_curves_that_cross_become_ordered_under_composition(mu, steps, costs, gains):
    first, second = Gaussian(1 / mu, steps).profile(), Laplace(1.0, steps=steps).profile()
    for found, expected in (
        (delta_divergence(first, second), costs),
        (delta_divergence(second, first), gains),
    ):
        last_digit = 5.1e-6 if expected >= 1e-3 else 0.03 * expected
        assert contains(found.value, expected, last_digit)
        assert found.value.upper - found.value.lower < 5e-6
    found = compare(first, second, 5e-6)
    expected = "crossing" if min(costs, gains) > 5e-6 else "the second is at least as private"
    assert found.verdict == (expected if costs < 5e-6 or expected == "crossing" else "the first is at least as private")


@pytest.mark.parametrize(("steps", "distance", "gamma"), [(10, 0.00743, 0.232), (100, 3.9e-6, 0.0735)])
def test_laplace_approaches_its_central_limit_faster_than_berry_and_esseen_promise(steps, distance, gamma):
    loss = np.linspace(-1, 1, 2_000_001)[1:-1]  # of Laplace(1) under P: atoms of 1/2 at 1, e^-1/2 at -1, and a density
    density, step = np.exp((loss - 1) / 2) / 4, 1e-6
    mean, atoms = math.exp(-1), ((1.0, 0.5), (-1.0, math.exp(-1) / 2))
    assert sum(p for _, p in atoms) + density.sum() * step == pytest.approx(1, abs=1e-6)
    assert sum(p * x for x, p in atoms) + (density * loss).sum() * step == pytest.approx(mean, abs=1e-6)
    variance, third = (
        sum(p * abs(x - mean) ** power for x, p in atoms) + (density * np.abs(loss - mean) ** power).sum() * step
        for power in (2, 3)
    )
    assert variance == pytest.approx(0.6573880697, abs=1e-6)
    bound = 0.56 * third / (math.sqrt(steps) * variance**1.5)
    assert bound == pytest.approx(gamma, rel=5e-3)
    limit = GaussianProfile(2 * math.sqrt(steps) * mean / math.sqrt(variance))
    found = compare(limit, Laplace(1.0, steps=steps).profile(), 1e-6).symmetric
    assert contains(found, distance, 0.02 * distance)
    assert found.upper <= bound


DESIGNS = [  # all (8, 1e-5)-private after 2000 steps
    (0.001, 0.40172, 0.1985, 0.1983),
    (0.005, 0.53396, 0.3810, 0.1071),
    (0.02, 0.84654, 0.5350, 0.0301),
    (0.1, 2.79589, 0.5867, 0.0042),
    (0.3, 8.0994, 0.5930, 0.0011),
]


@pytest.mark.parametrize(("rate", "noise", "advantage", "cost"), DESIGNS)
def test_at_equal_epsilon_a_full_batch_is_more_vulnerable_than_sampling(rate, noise, advantage, cost):
    sampled, full = SubsampledGaussian(noise, rate, 2000).profile(), Gaussian(26.8447, 2000).profile()
    assert sampled.epsilon(DELTA).upper == pytest.approx(full.epsilon(DELTA).upper, abs=1e-3)
    assert sampled.advantage().upper == pytest.approx(advantage, abs=1e-4)
    found = compare(sampled, full)
    assert found.second_over_first.value.lower == pytest.approx(cost, abs=2e-4)
    assert found.second_over_first.value.upper == pytest.approx(cost, abs=2e-4)
    assert found.first_over_second.value.upper < 5e-5
    assert found.verdict == "the first is at least as private"


def test_the_tail_that_the_divergence_is_blind_to_is_shown_beside_it():
    sampled, full = SubsampledGaussian(0.40172, 0.001, 2000).profile(), Gaussian(26.8447, 2000).profile()
    found = compare(sampled, full)
    rows = {alpha: (one.upper, other.upper) for alpha, one, other in found.rows}
    assert rows[1e-3][0] < rows[1e-3][1]
    assert sampled.delta(12.0).lower > full.delta(12.0).upper  # beyond epsilon = 8 the order is reversed


def test_the_advantage_of_small_rates_is_half_at_epsilon_one_too():
    assert SubsampledGaussian(0.66246, 0.001, 2000).profile().advantage().upper == pytest.approx(0.0508, abs=1e-4)


def test_a_perfect_and_a_blatant_mechanism_are_one_half_apart():
    perfect, blatant = GaussianProfile(1e-6), Unbounded("nothing is guaranteed").profile()
    there, back = delta_divergence(perfect, blatant).value, delta_divergence(blatant, perfect).value
    assert there.lower == pytest.approx(0.5, abs=1e-6)
    assert there.upper == pytest.approx(0.5, abs=1e-5)
    assert back.upper == 0
    assert delta_divergence(perfect, gaussian(60.0).profile()).value.lower == pytest.approx(0.5, abs=1e-6)


def test_the_reading_says_who_pays_and_how_much():
    reading = compare(gaussian(1).profile(), gaussian(2).profile()).reading()
    assert "the first is at least as private" in reading
    assert "Choosing the second instead of the first" in reading
    assert "at most 15.00 percentage points" in reading


def test_composition_keeps_what_holds_for_each_part():
    better, worse, common = SubsampledGaussian(2.0, 0.1, 100), SubsampledGaussian(1.5, 0.1, 100), Gaussian(5.0)
    found = compare(Composition((better, common)).profile(), Composition((worse, common)).profile())
    assert found.verdict == "the first is at least as private"


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: compare(GaussianProfile(1.0), GaussianProfile(2.0), 0.0), "tolerance"),
        (lambda: bayes_error(GaussianProfile(1.0), 1.0), "prior"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(attempt, message):
    with pytest.raises(InputError, match=message):
        attempt()
