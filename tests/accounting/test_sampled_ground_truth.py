"""Poisson-sampled Gaussians against reference values: brackets contain the truth, and the guaranteed side is close."""

import math

import numpy as np
import pytest
from scipy import stats

from reticent.accounting import Certified, Composition, Gaussian, Laplace, SubsampledGaussian


def run(sampling_rate, noise_multiplier, steps):
    return SubsampledGaussian(noise_multiplier, sampling_rate, steps)


# (q, sigma, T): epsilon(1e-5) of removal and of addition, delta(1), advantage, power at type I errors 0.01, 0.001 and
# 1e-5: contour integral confirmed by a second method, as many digits as are known.
ROWS = {
    "A": (
        run(0.01, 1, 10000),
        *(6.18771239, 5.61150862, 0.239142961, 0.480072359, 0.153945318, 0.0380134755, 0.00167260877),
    ),
    "B": (
        run(0.01, 1, 1000),
        *(1.828236667, 1.416661948, 0.002612420579, 0.16101762, 0.029139095, 0.00406844788, 7.20744056e-5),
    ),
    "C": (
        run(0.001, 1, 10000),
        *(0.47576129, 0.44002627, 9.77343e-12, 0.05213899, 0.0141744963, 0.00156262338, 1.83127497e-5),
    ),
    "D": (
        run(0.001, 0.6, 10000),
        *(2.4561454, 1.1955244, 0.0027995, 0.14637738, 0.028917158, 0.00440200794, 1.14037137e-4),
    ),
    "E": (
        run(0.02, 1.1, 3000),
        *(5.87662984, 5.13749489, 0.21098311, 0.455414346, 0.138305375, 0.0329181257, 0.00137380817),
    ),
    "F": (
        run(256 / 60000, 1.1, 3510),
        *(1.132863322, 1.015602908, 5.08811742e-5, 0.113251434, 0.0210249751, 0.00260544131, 3.69962131e-5),
    ),
    "G": (
        run(0.32768, 9.4, 2000),
        *(7.4243789, 7.3571778, 0.3444867, 0.5646043, 0.222303337, 0.0633346412, 0.0034611257),
    ),
    "H": (
        run(0.1, 2, 100),
        *(2.337399593, 1.881035711, 0.0114978612, 0.205861132, 0.0377138666, 0.00568029706, 1.12257731e-4),
    ),
    "I": (
        run(0.5, 3, 50),
        *(5.62642302, 4.98075784, 0.19753843, 0.44425853, 0.130390896, 0.0301834398, 0.00119505554),
    ),
    "J": (
        run(0.0038010957846441, 0.5715066078978425, 792),
        *(3.94510272, 1.05220322, 0.0118862887, 0.160962175, 0.0389954566, 0.00750346938, 2.95363863e-4),
    ),
    "K": (
        run(0.032, 1.5, 3000),
        *(6.14809181, 5.68020502, 0.240438725, 0.481686569, 0.154224086, 0.0379510583, 0.00165108111),
    ),
    "L": (
        run(0.05, 0.8, 10),
        *(2.86256469, 0.405556914, 0.00328769733, 0.0974307391, 0.0284361893, 0.00495952162, 1.52977904e-4),
    ),
    "M": (
        Composition((run(0.01, 1.2, 500), run(0.02, 1.5, 300), Gaussian(10.0))),
        *(1.458662175, 1.271693703, 6.28724297e-4, 0.14029274, 0.0249891901, 0.00327231016, 5.09723854e-5),
    ),
    "N": (
        run(0.25, 4, 500),
        *(6.67878678, 6.37585032, 0.28442448, 0.5178026, 0.181089351, 0.047403028, 0.00226817439),
    ),
}
FEW_DIGITS = {"C": 1e-6, "D": 3e-5, "G": 1.5e-7, "N": 1e-7}


def assert_holds(value: Certified, truth: float, loose: float, digits: float = 2e-7) -> None:
    assert value.lower <= truth * (1 + digits)
    assert truth * (1 - digits) <= value.upper <= truth * (1 + loose)


@pytest.mark.parametrize("row", ROWS)
def test_brackets_contain_the_truth_and_are_narrow(row):
    mechanism, removal, addition, delta, advantage, *powers = ROWS[row]
    profile, digits = mechanism.profile(), FEW_DIGITS.get(row, 2e-8)
    assert_holds(profile.epsilon(1e-5), removal, 1e-6, max(digits, 5e-8))
    assert_holds(profile.epsilon(1e-5, "remove"), removal, 1e-6, max(digits, 5e-8))
    assert_holds(profile.epsilon(1e-5, "add"), addition, 1e-6, max(digits, 5e-8))
    assert_holds(profile.delta(1.0), delta, 1e-3, digits)
    assert_holds(profile.advantage(), advantage, 1e-5, max(digits, 5e-8))
    for found, power in zip(profile.power([1e-2, 1e-3, 1e-5]), powers, strict=True):
        assert_holds(found, power, 3e-4, max(digits, 1e-6))
    for beta, power in zip(profile.tradeoff([1e-2, 1e-3, 1e-5]), powers, strict=True):
        assert_holds(Certified(1 - beta.upper, 1 - beta.lower, "upper"), power, 3e-4, max(digits, 1e-6))


def test_the_published_bracket_of_prv_accounting_is_contained_in_part():
    epsilon = ROWS["A"][0].profile().epsilon(1e-5)
    assert 6.186709142 <= epsilon.lower <= epsilon.upper <= 6.188715699
    assert epsilon.upper - epsilon.lower <= 1e-6


@pytest.mark.parametrize(("alpha_min", "truth"), [(1e-2, 1.30668977), (1e-5, 1.33079575), (1e-10, 1.35875612)])
def test_mu_is_the_tight_one_for_its_range(alpha_min, truth):
    assert_holds(ROWS["A"][0].profile().mu(alpha_min), truth, 3e-4)


@pytest.mark.parametrize(
    ("row", "truth"), [("E", 1.30724906), ("G", 1.56694765), ("J", 1.12430286), ("K", 1.34780793), ("N", 1.43920898)]
)
def test_mu_down_to_a_false_positive_rate_of_1e_10(row, truth):
    assert_holds(ROWS[row][0].profile().mu(), truth, 5e-4)


@pytest.mark.parametrize(
    ("mechanism", "delta", "epsilon"),
    [
        (run(0.01, 1, 10000), 1e-8, 8.185122968),
        (run(0.01, 1, 10000), 1e-10, 9.316138526),
        (run(0.01, 1, 10000), 1e-12, 10.34668984),
        (run(0.01, 1, 10000), 1e-20, 13.87977272),
        (run(0.01, 1, 10000), 1e-50, 24.44449131),
        (run(0.02, 1.1, 3000), 1e-10, 8.957376268),
        (run(0.02, 1.1, 3000), 1e-15, 11.39726751),
        (run(0.001, 1, 10000), 1e-12, 1.1844838),
        (run(0.001, 1, 10000), 1e-15, 1.8349176),
    ],
)
def test_small_deltas_stay_certified(mechanism, delta, epsilon):
    assert_holds(mechanism.profile().epsilon(delta), epsilon, 1e-4, 1e-7)


def test_below_the_reach_of_the_curve_epsilon_falls_back_on_a_valid_bound():
    mechanism = Composition((run(0.01, 1, 10000), Laplace(1000.0)))
    epsilon = mechanism.profile().epsilon(1e-50)
    assert epsilon.lower <= 24.44449131 <= epsilon.upper < 40


@pytest.mark.parametrize(
    ("q", "sigma", "epsilon", "removal", "addition"),
    [
        (0.01, 1.0, 1.0, 2.732009261546e-9, 0.0),
        (0.01, 1.0, 0.005, 0.002635150845899, 0.0009631443353053),
        (0.1, 2.0, 0.5, 8.449708148767e-7, 0.0),
        (0.1, 2.0, 0.005, 0.01782448731534, 0.01693826002232),
        (0.5, 1.0, 1.0, 0.02886761783763, 0.0),
        (0.5, 1.0, 0.005, 0.1899247120585, 0.1889650465958),
        (0.01, 0.5, 2.0, 5.396716838848e-5, 0.0),
    ],
)
def test_one_step_matches_its_closed_form_in_both_orders(q, sigma, epsilon, removal, addition):
    profile = run(q, sigma, 1).profile()
    assert profile.delta(epsilon).exact
    assert profile.delta(epsilon, "remove").upper == pytest.approx(removal, rel=1e-11)
    assert profile.delta(epsilon, "add").upper == pytest.approx(addition, rel=1e-11, abs=1e-40)
    assert profile.advantage().upper == pytest.approx(q * math.erf(1 / sigma / math.sqrt(8)), rel=1e-11)
    if removal > 1e-7:
        assert profile.epsilon(removal).upper == pytest.approx(epsilon, rel=1e-8)


@pytest.mark.parametrize(
    ("q", "sigma", "orders"),
    [
        (0.01, 1.0, {2: 1.718134220745e-4, 4: 3.631540489108e-4, 8: 8.93643907606e-4, 16: 3.087850783696}),
        (0.1, 2.0, {2: 0.002836228266264, 8: 0.01372543010322, 32: 1.627202301019}),
        (0.32768, 9.4, {2: 0.001221346157087, 8: 0.004960157901741, 32: 0.0211530700351}),
    ],
)
def test_renyi_divergence_is_exact_at_whole_orders(q, sigma, orders):
    for order, truth in orders.items():
        assert run(q, sigma, 1).profile().renyi(order) == pytest.approx(truth, rel=1e-9)
        assert run(q, sigma, 7).profile().renyi(order) == pytest.approx(7 * truth, rel=1e-9)


def test_renyi_divergence_between_whole_orders_is_bounded_from_above():
    from dp_accounting.rdp import rdp_privacy_accountant

    accountant = rdp_privacy_accountant._compute_rdp_poisson_subsampled_gaussian
    for order in (1.5, 2.25, 7.7):
        truth = accountant(0.05, 1.2, [order])[0]
        assert truth <= run(0.05, 1.2, 1).profile().renyi(order) <= 1.3 * truth


def test_approximate_gdp_covers_the_profile_everywhere():
    profile = ROWS["J"][0].profile()
    mu = profile.approximate_gdp(1e-8)
    cover, too_little = Gaussian(1 / mu).profile(), Gaussian(1.02 / mu).profile()
    epsilons = [k / 7 for k in range(140)]
    assert all(profile.delta(e).lower <= cover.delta(e).upper + 1e-8 for e in epsilons)
    assert any(profile.delta(e).lower > too_little.delta(e).upper + 1e-8 for e in epsilons)


@pytest.mark.parametrize("case", [(0.02, 0.5, 100), (0.02, 0.9, 2000), (0.025, 0.3, 5000), (0.05, 0.5, 1000)])
def test_brackets_hold_where_steps_with_the_unit_are_told_apart_from_those_without(case):
    s, q, steps = case
    profile = run(q, s, steps).profile()
    for delta in (0.5, 1e-3, 1e-6):
        found = profile.epsilon(delta)
        assert delta_of_drawn_steps(found.upper, s, q, steps) <= delta <= delta_of_drawn_steps(found.lower, s, q, steps)
        assert found.upper <= 1.01 * found.lower


def delta_of_drawn_steps(epsilon, s, q, steps):
    """delta for a noise so small that every step shows whether it drew the unit: the draws mix Gaussian losses.

    With k draws the loss is N(m, v), m = (steps - k) log(1-q) + k log q + k / 2 s^2 and v = k / s^2.
    """
    k = np.arange(1, steps + 1)
    mean, deviation = (steps - k) * math.log1p(-q) + k * math.log(q) + k / (2 * s**2), np.sqrt(k) / s
    above = stats.norm.logcdf((mean - epsilon) / deviation)
    shifted = epsilon - mean + deviation**2 / 2 + stats.norm.logcdf((mean - epsilon) / deviation - deviation)
    return float(np.sum(stats.binom.pmf(k, steps, q) * (np.exp(above) - np.exp(shifted))))


def test_a_tiny_type_two_error_is_bracketed_and_not_called_exact():
    beta = run(0.1, 1, 10000).profile().tradeoff(0.0218219)
    assert beta.lower <= 2.23765e-23 <= beta.upper  # contour integral
    assert beta.lower >= 0.99 * 2.23765e-23
    assert not beta.exact


def test_mu_is_that_of_the_worst_attack_whose_errors_are_both_that_large():
    found = run(0.05, 1, 5000).profile().mu(alpha_min=0.45)
    assert found.lower <= found.upper == pytest.approx(-2 * stats.norm.ppf(0.45), abs=1e-5)


def test_a_sampling_rate_close_to_one_loses_no_accuracy():
    sampled, plain = run(1 - 1e-12, 0.13, 1).profile(), Gaussian(0.13).profile()
    for epsilon in (20.0, 40.0, 60.0):
        assert sampled.delta(epsilon).upper >= plain.delta(epsilon).upper * (1 - 1e-6)
        assert sampled.delta(epsilon).upper <= plain.delta(epsilon).upper * 1.01
