"""Gaussian DP as the statement: the tight mu of a range, what the summary loses, and when it does not fit.

Truths of DP-SGD come from contour integrals (8 digits), those of Laplace and randomised response from closed forms.
"""

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from reticent.accounting import (
    Composition,
    DiscreteGaussian,
    DiscreteLoss,
    Estimate,
    Gaussian,
    Laplace,
    RandomisedResponse,
    SensitivityIndex,
    SubsampledGaussian,
    Unbounded,
    central_limit_psi,
    gdp_statement,
    mu_of_laplace,
    mu_of_pure_dp,
)
from reticent.errors import InputError

RUNS = {
    "A": SubsampledGaussian(1.0, 0.01, 10000),
    "E": SubsampledGaussian(1.1, 0.02, 3000),
    "G": SubsampledGaussian(9.4, 0.32768, 2000),  # CIFAR-10 recipe of De et al., 2022
    "J": SubsampledGaussian(0.5715066078978425, 0.0038010957846441, 792),  # GPT-2 fine-tuning of Kulynych et al., 2024
    "K": SubsampledGaussian(1.5, 0.032, 3000),
    "N": SubsampledGaussian(4.0, 0.25, 500),
}
ALPHAS = (1e-2, 1e-3, 1e-5, 1e-6, 1e-8, 1e-10)
MU_OF_TESTS = {  # mu(alpha) = Phi^-1(1 - alpha) - Phi^-1(f(alpha)), which grows as alpha falls
    "A": (1.30668977, 1.31601342, 1.33079575, 1.33711756, 1.34850295, 1.35875612),
    "E": (1.23838331, 1.25069538, 1.27024270, 1.27860916, 1.29368059, 1.30724906),
    "G": (1.56191055, 1.56286331, 1.56432918, 1.56493910, 1.56601139, 1.56694765),
    "J": (0.563883752, 0.658020741, 0.829054463, 0.90092977, 1.02211075, 1.12430286),
    "K": (1.30786424, 1.31525792, 1.32677740, 1.33162315, 1.34021959, 1.34780793),
    "N": (1.41512642, 1.41965934, 1.42665381, 1.42957130, 1.43471079, 1.43920898),
}
ETAS = (1e-3, 1e-5, 1e-6, 1e-10)
MU_DOWN_TO = {  # mu with delta_mu(epsilon) = delta(epsilon) = eta
    "A": (1.327891915, 1.344065764, 1.350956696, 1.374552677),
    "E": (1.265192975, 1.286692368, 1.295849719, 1.327152837),
    "G": (1.564379956, 1.565902242, 1.566531379, 1.568591376),
    "J": (0.690990776, 0.913894909, 0.999248944, 1.264936349),
    "K": (1.324485233, 1.336795464, 1.341934539, 1.358995572),
    "N": (1.425961653, 1.433311089, 1.436353461, 1.446339817),
}
LAST_DIGIT = 1e-8


@cache
def profile_of(name):
    return RUNS[name].profile()


@cache
def statement_of(name, eta):
    return gdp_statement(profile_of(name), eta)


def delta_of_gaussian(mu, epsilon):
    return SensitivityIndex(mu).delta(epsilon)


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("column", range(len(ALPHAS)))
def test_mu_of_all_tests_with_errors_of_at_least_alpha_is_bracketed_closely(name, column):
    mu, truth = profile_of(name).mu(ALPHAS[column]), MU_OF_TESTS[name][column]
    assert mu.lower <= truth + LAST_DIGIT
    assert truth - LAST_DIGIT <= mu.upper <= truth + 1e-3
    assert mu.upper - mu.lower < 1e-4


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("column", range(len(ETAS)))
def test_mu_down_to_a_delta_of_eta_is_bracketed_closely(name, column):
    mu, truth = statement_of(name, ETAS[column]).mu, MU_DOWN_TO[name][column]
    assert mu.lower <= truth + LAST_DIGIT
    assert truth - LAST_DIGIT <= mu.upper <= truth + 1e-3
    assert mu.upper - mu.lower < 1e-4


@pytest.mark.parametrize(
    ("name", "eta", "regret", "fits"),
    [
        ("A", 1e-5, 0.0092, True),
        ("A", 1e-10, 0.0140, False),
        ("G", 1e-5, 0.00087, True),
        ("G", 1e-10, 0.00126, True),
        ("J", 1e-5, 0.0957, False),
        ("J", 1e-10, 0.156, False),
        ("K", 1e-5, 0.0072, True),
        ("K", 1e-10, 0.0108, False),
    ],
)
def test_the_verdict_on_dp_sgd_depends_on_eta(name, eta, regret, fits):
    statement = statement_of(name, eta)
    assert statement.regret.lower == pytest.approx(regret, abs=2e-4)
    assert statement.regret.upper == pytest.approx(regret, abs=2e-4)
    assert statement.fits is fits
    assert f"{eta:g}" in statement.sentence("add-or-remove-one")


def test_the_cifar_recipe_has_the_published_mu_and_loss():
    statement = statement_of("G", 1e-5)
    assert statement.mu.upper == pytest.approx(1.567013, abs=1e-2)  # Gomez et al., 2025, with its own cut-off
    assert 100 * statement.regret.upper == pytest.approx(0.10, abs=0.01)


@pytest.mark.parametrize("mu", [0.5, 1.0, 2.0, 2.5])
def test_a_gaussian_mechanism_loses_nothing(mu):
    statement = gdp_statement(Gaussian(1 / mu).profile())
    assert statement.mu.lower <= mu * (1 + 1e-12)
    assert mu <= statement.mu.upper <= mu + 1e-4
    assert statement.regret.upper < 1e-4
    assert Gaussian(1 / mu).profile().mu(1e-5).upper == pytest.approx(mu, rel=1e-12)


@pytest.mark.parametrize(
    ("noise_multiplier", "mu", "regret"),
    [(0.5, 1.800905193276, 0.0301625), (1.0, 1.030063997624, 0.0370161113), (2.0, 0.561764323211, 0.0271903)],
)
def test_laplace_has_the_mu_and_regret_of_its_closed_form(noise_multiplier, mu, regret):
    assert mu_of_laplace(noise_multiplier) == pytest.approx(mu, rel=1e-11)
    profile = Laplace(noise_multiplier).profile()
    statement = gdp_statement(profile)
    for found in (statement.mu, profile.mu(1e-5)):
        assert found.lower <= mu * (1 + 1e-10)
        assert mu * (1 - 1e-10) <= found.upper <= mu + 2e-5
    shift = 0.2 * (statement.mu.upper - mu) + 5e-8  # the regret is that of mu.upper; it grows by at most 0.2 per mu
    assert statement.regret.lower - shift <= regret <= statement.regret.upper + shift
    assert statement.regret.upper <= regret + 1e-4
    assert statement.worst_epsilon == pytest.approx(1 / noise_multiplier, abs=2e-4)
    assert not statement.fits


@pytest.mark.parametrize("epsilon", [0.75, 1.0, 1.5, 2.0])
def test_randomised_response_has_the_mu_of_pure_dp_and_does_not_fit(epsilon):
    truth = 2 * float(ndtri(math.exp(epsilon) / (1 + math.exp(epsilon))))
    assert mu_of_pure_dp(epsilon) == pytest.approx(truth, rel=1e-12)
    profile = RandomisedResponse(epsilon).profile()
    for found in (gdp_statement(profile).mu, profile.mu()):
        assert found.lower <= truth * (1 + 1e-10)
        assert truth * (1 - 1e-10) <= found.upper <= truth + 2e-5
    assert gdp_statement(profile).regret.lower > 0.01
    assert not gdp_statement(profile).fits


def test_the_census_with_its_eighty_discrete_gaussians_is_gaussian_to_four_digits():
    rho, shares = 3.65, (0.02, 0.274, 0.085, 0.131, 0.131, 0.238, 0.118, 0.003)  # Gomez et al., 2025
    levels = tuple(DiscreteGaussian(math.sqrt(10 / (2 * rho * share)), steps=10) for share in shares)
    statement = gdp_statement(Composition(levels).profile())
    assert statement.fits
    assert statement.regret.upper < 1e-4
    assert statement.mu.upper == pytest.approx(math.sqrt(2 * rho), abs=1e-4)


@pytest.mark.parametrize(("name", "eta"), [("A", 1e-10), ("G", 1e-5), ("J", 1e-5)])
def test_the_summary_is_above_the_true_profile_wherever_delta_exceeds_eta(name, eta):
    profile = profile_of(name)
    mu = gdp_statement(profile, eta).mu.upper
    reach = profile.epsilon(eta).lower
    for epsilon in np.random.default_rng(31).uniform(0, reach, 200):
        assert delta_of_gaussian(mu, epsilon) >= profile.delta(epsilon).lower
    for epsilon in (reach * 1.001, reach * 1.3, reach * 3):
        assert profile.delta(epsilon).lower <= max(delta_of_gaussian(mu, epsilon), eta)


@settings(max_examples=3, deadline=None)
@given(st.floats(1, 10), st.floats(0.02, 0.4), st.integers(100, 2000), st.floats(0, 1), st.floats(-9, -3))
def test_the_summary_is_above_any_sampled_gaussian(noise_multiplier, rate, steps, share, exponent):
    profile, eta = SubsampledGaussian(noise_multiplier, rate, steps).profile(), 10.0**exponent
    statement = gdp_statement(profile, eta)
    epsilon = share * profile.epsilon(eta).upper
    assert profile.delta(epsilon).lower <= max(delta_of_gaussian(statement.mu.upper, epsilon), eta)
    assert statement.mu.lower <= statement.mu.upper


def least_shift(alphas, betas, mu):
    """Smallest k with f(x + k) - k <= f_mu(x) for all x, by bisection; alphas and betas are points of f."""
    low, high = 0.0, 0.5
    while high - low > 1e-9:
        k = (low + high) / 2
        reached = alphas >= k
        summary = ndtr(-ndtri(np.minimum(alphas[reached] - k, 1.0)) - mu)
        low, high = (low, k) if (betas[reached] - k <= summary).all() else (k, high)
    return high


def test_regret_is_the_least_diagonal_shift_of_the_curve_for_laplace():
    alphas, noise, scale = np.linspace(0, 1, 2_000_001), 1.0, math.exp(-1)
    middle = scale / (4 * np.maximum(alphas, scale / 2))
    betas = np.where(alphas < scale / 2, 1 - alphas / scale, np.where(alphas <= 0.5, middle, scale * (1 - alphas)))
    statement = gdp_statement(Laplace(noise).profile())
    shift = least_shift(alphas, betas, statement.mu.upper)
    assert statement.regret.lower - 1e-6 <= shift <= statement.regret.upper + 1e-6


@pytest.mark.parametrize("name", ["K", "J"])
def test_regret_is_the_least_diagonal_shift_of_the_curve_for_dp_sgd(name):
    alphas = np.linspace(0, 1, 100_001)
    betas = np.array([value.lower for value in profile_of(name).tradeoff(alphas)])
    statement = statement_of(name, 1e-5)
    shift = least_shift(alphas, betas, statement.mu.upper)
    assert statement.regret.lower - 1e-6 <= shift <= statement.regret.upper + 1e-6


def test_the_central_limit_is_an_estimate_far_below_the_guarantee():
    estimate = central_limit_psi(0.5715066078978425, 0.0038010957846441, 792)
    assert isinstance(estimate, Estimate)
    assert estimate.to_dict()["kind"] == "estimate"
    assert estimate.value == pytest.approx(0.4827175, abs=1e-7)
    assert statement_of("J", 1e-5).mu.lower > 0.91


def test_mu_falls_with_noise_and_grows_with_steps_sampling_rate_and_range():
    middle = {"noise_multiplier": 2.0, "sampling_rate": 0.2, "steps": 200}
    profile = SubsampledGaussian(**middle).profile()

    def mu(**changed):
        eta = changed.pop("eta", 1e-6)
        return gdp_statement(SubsampledGaussian(**middle | changed).profile() if changed else profile, eta).mu.upper

    for argument, values in (
        ("noise_multiplier", (3.0, 1.5)),
        ("sampling_rate", (0.1, 0.3)),
        ("steps", (100, 300)),
        ("eta", (1e-3, 1e-12)),
    ):
        less, more = (mu(**{argument: value}) for value in values)
        assert less < mu() < more, argument


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("eta", [1e-5, 1e-10])
def test_the_sentence_rounds_mu_up(name, eta):
    statement = statement_of(name, eta)
    stated = float(statement.sentence("add-or-remove-one").split("-GDP")[0].split()[-1])
    assert statement.mu.upper <= stated < statement.mu.upper + 1e-3


def test_the_sentence_names_its_neighbours_and_says_whether_it_represents_the_mechanism():
    sentence = statement_of("G", 1e-5).sentence("add-or-remove-one")
    assert "1.566-GDP" in sentence
    assert "add-or-remove-one" in sentence
    assert "represents it well" in sentence
    assert "report the privacy profile" in statement_of("J", 1e-5).sentence("add-or-remove-one")


def test_two_runs_together_are_covered_by_their_mus_and_etas():
    first, second, eta = SubsampledGaussian(2.0, 0.1, 100), SubsampledGaussian(1.5, 0.05, 200), 1e-6
    apart = [gdp_statement(run.profile(), eta).mu.upper for run in (first, second)]
    together = gdp_statement(Composition((first, second)).profile(), 2 * eta - eta**2)
    assert together.mu.upper <= math.hypot(*apart)
    assert together.mu.lower > max(apart)


def test_mu_ranks_two_gaussians_whose_epsilons_mislead():
    larger_epsilon = SensitivityIndex.from_epsilon_delta(8, 1e-9).psi
    smaller_epsilon = SensitivityIndex.from_epsilon_delta(6, 1e-5).psi
    assert larger_epsilon == pytest.approx(1.2622484650, abs=1e-9)
    assert smaller_epsilon == pytest.approx(1.3095258394, abs=1e-9)
    mus = [gdp_statement(Gaussian(1 / psi).profile()).mu for psi in (larger_epsilon, smaller_epsilon)]
    assert mus[0].upper < mus[1].lower


def leaky(probability):
    """Publishes the record with this probability, otherwise answers by randomised response at epsilon = 1."""
    rest = 1 - probability
    return DiscreteLoss((-1.0, 1.0), (rest / (1 + math.e), rest * math.e / (1 + math.e)), infinite=probability)


def test_a_mechanism_that_fails_outright_has_a_mu_only_above_its_failure_probability():
    assert gdp_statement(leaky(1e-5).profile(), 1e-4).mu.upper == pytest.approx(mu_of_pure_dp(1.0), abs=1e-3)
    for profile, eta in ((leaky(1e-5).profile(), 1e-6), (Unbounded("shuffled").profile(), 1e-10)):
        statement = gdp_statement(profile, eta)
        assert math.isinf(statement.mu.upper)
        assert not statement.fits
        assert "No finite mu" in statement.sentence("add-or-remove-one")


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: gdp_statement(Gaussian(1.0).profile(), 0.0), "eta"),
        (lambda: gdp_statement(Gaussian(1.0).profile(), 1.0), "eta"),
        (lambda: profile_of("K").mu(0.5), "alpha_min"),
        (lambda: mu_of_pure_dp(0.0), "epsilon"),
        (lambda: mu_of_laplace(-1.0), "noise_multiplier"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(attempt, message):
    with pytest.raises(InputError, match=message):
        attempt()


def test_bounds_and_the_summary_hold_where_e_to_the_epsilon_overflows():
    profile = SubsampledGaussian(0.02, 0.5, 10).profile()
    epsilons = np.array([600.0, 701.0, 900.0, 6000.0, 10_000.0])
    for epsilon, low, high in zip(epsilons, *profile.bounds(epsilons), strict=True):
        found = profile.delta(float(epsilon))
        assert low <= found.upper
        assert found.lower <= high <= found.upper * 1.001
    mu = gdp_statement(profile, 1e-5).mu.upper
    assert Gaussian(1 / mu).profile().delta(6000.0).upper >= profile.delta(6000.0).lower
