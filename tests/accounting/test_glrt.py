"""Relaxed adversaries: values of the closed forms, independent computations of them, and simulated attacks.

Simulations have fixed seeds and a false-alarm rate below 1e-6: 5 standard errors of a Gaussian.
"""

import math

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import chi2, ncx2

from reticent.accounting import Certified, Estimate
from reticent.accounting.glrt import GLRTAdversary, compose_glrt, compose_sampled_glrt, threat_model_table
from reticent.accounting.sensitivity_index import SensitivityIndex
from reticent.errors import InputError

# mu, TPR at FPR 0.01 and 0.1, advantage, AUC, delta(1), epsilon(1e-5), direction known up to its sign
TABLE = [
    (0.5, 0.02000446047382, 0.142117174162, 0.05805886573137, 0.5381781369517, 0.000123536542761, 1.312922233804),
    (1.0, 0.05770713327903, 0.2635973359015, 0.2067436906152, 0.6354600614017, 0.04020647752889, 3.684079623713),
    (2.0, 0.2823676539602, 0.6388938033269, 0.5655524727223, 0.855072313219, 0.3848598876073, 9.304108965903),
    (3.0, 0.6642793473059, 0.9123162383386, 0.8143288209905, 0.966679577023, 0.7193025180535, 15.98234722227),
]


@pytest.mark.parametrize(("mu", "power2", "power1", "advantage", "auc", "delta", "epsilon"), TABLE)
def test_unknown_sign_matches_the_closed_forms(mu, power2, power1, advantage, auc, delta, epsilon):
    adversary = GLRTAdversary(mu)
    assert adversary.roc(0.01).value == pytest.approx(power2, rel=1e-10)
    assert adversary.roc(0.1).value == pytest.approx(power1, rel=1e-10)
    assert adversary.advantage().value == pytest.approx(advantage, rel=1e-10)
    assert adversary.auc().value == pytest.approx(auc, rel=1e-10)
    assert adversary.delta(1.0).value == pytest.approx(delta, rel=1e-10)
    assert adversary.epsilon(1e-5).value == pytest.approx(epsilon, rel=1e-10)


@pytest.mark.parametrize(
    ("mu", "dof", "power"),
    [
        (1, 10, 0.01997), (1, 100, 0.01227), (1, 1000, 0.01063),
        (2, 3, 0.16385), (2, 10, 0.07702), (2, 100, 0.02157), (2, 1000, 0.01274),
        (3, 10, 0.25999), (3, 100, 0.04786), (3, 1000, 0.01703),
    ],
)  # fmt: skip
def test_power_collapses_when_the_direction_is_unknown(mu, dof, power):
    assert GLRTAdversary(mu, dof).roc(0.01).value == pytest.approx(power, abs=5.1e-6)


@pytest.mark.parametrize(
    ("dof", "kappa", "power"),
    [(1, 0.5, 0.911241), (1, 0.001, 0.098434), (10, 0.5, 0.768569), (10, 0.1, 0.32573), (100, 0.1, 0.160938)],
)
def test_power_at_mu_2_matches_the_reconstruction_bounds_of_the_companion_paper(dof, kappa, power):
    assert GLRTAdversary(2.0, dof).roc(kappa).value == pytest.approx(power, rel=1e-5)


def test_the_normal_and_the_chi_squared_formulas_agree():
    rates = np.linspace(0.01, 0.99, 99)
    for mu in (0.5, 1.0, 2.0):
        squared = ncx2.sf(chi2.isf(rates, 1), 1, mu**2)
        assert GLRTAdversary(mu).roc_values(rates) == pytest.approx(squared, abs=1e-13)


@pytest.mark.parametrize(
    "adversary",
    [
        GLRTAdversary(0.5), GLRTAdversary(1.0), GLRTAdversary(2.0), GLRTAdversary(2.0, 3),
        GLRTAdversary(2.0, 1, 0.1), GLRTAdversary(1.0, 4, 0.2),
    ],
)  # fmt: skip
def test_delta_is_the_dual_of_the_roc_curve_in_both_orders(adversary):
    rates = np.concatenate([np.logspace(-14, -3, 50_000), np.linspace(1e-3, 1, 400_001)])
    power = adversary.roc_values(rates)
    for epsilon in (-0.5, 0.0, 0.05, 0.5, 1.0, 2.0):
        forward = max(0.0, np.max(power - math.exp(epsilon) * rates))
        backward = max(0.0, 1 - math.exp(epsilon), np.max(1 - rates - math.exp(epsilon) * (1 - power)))
        assert adversary.delta(epsilon).value == pytest.approx(forward, abs=1e-9)
        assert adversary.delta_reverse(epsilon).value == pytest.approx(backward, abs=1e-9)


@pytest.mark.parametrize(("mu", "dof", "epsilon", "delta"), [(2, 3, 0.5, 0.3246489855), (3, 10, 1.0, 0.3600417813)])
def test_delta_in_several_dimensions_matches_its_values(mu, dof, epsilon, delta):
    assert GLRTAdversary(mu, dof).delta(epsilon).value == pytest.approx(delta, abs=1e-10)


def test_the_area_under_the_curve_is_that_of_the_curve():
    rates = np.concatenate([[0.0], np.logspace(-12, 0, 100_001)])
    for adversary in (GLRTAdversary(1.0, 2), GLRTAdversary(2.0, 5, 0.3), GLRTAdversary(2.0, 1, 0.1)):
        assert adversary.auc().value == pytest.approx(np.trapezoid(adversary.roc_values(rates), rates), abs=1e-7)


def test_simulated_squared_norms_reach_the_curve():
    """Four million pairs and 5 standard errors, false-alarm rate 6e-7 each; seed 14."""
    rng = np.random.default_rng(14)
    absent, present = rng.normal(size=4_000_000), rng.normal(1.0, size=4_000_000)
    wins = np.mean(np.abs(present) > np.abs(absent))
    assert wins == pytest.approx(GLRTAdversary(1.0).auc().value, abs=5 * math.sqrt(0.6355 * 0.3645 / 4e6))
    norms = np.sum((rng.normal(size=(1_000_000, 3)) + np.array([2.0, 0, 0])) ** 2, axis=1)
    expected = GLRTAdversary(2.0, 3).roc(0.01).value
    assert np.mean(norms > chi2.isf(0.01, 3)) == pytest.approx(expected, abs=5 * math.sqrt(0.164 * 0.836 / 1e6))


def test_no_relaxed_adversary_beats_the_worst_case():
    rates = np.linspace(0, 1, 101)
    for mu in (0.5, 2.0, 4.0):
        for dof in (1, 3, 100):
            adversary, worst = GLRTAdversary(mu, dof), SensitivityIndex(mu)
            missed, least = 1 - adversary.roc_values(rates), worst.tradeoff(rates)
            assert np.all(missed[1:-1] > least[1:-1])
            assert (missed[0], missed[-1]) == (least[0], least[-1]) == (1, 0)
            for epsilon in (0.0, 0.1, 1.0):
                delta = adversary.delta(epsilon).value
                assert 0 < delta < worst.delta(epsilon)
                assert delta < GLRTAdversary(1.2 * mu, dof).delta(epsilon).value
                assert delta > GLRTAdversary(mu, dof + 1).delta(epsilon).value


@pytest.mark.parametrize(("mu", "gain"), [(1.0, 0.693098), (2.0, 0.693147)])
def test_not_knowing_the_sign_is_worth_at_most_log_2_of_epsilon(mu, gain):
    difference = SensitivityIndex(mu).epsilon(1e-5) - GLRTAdversary(mu).epsilon(1e-5).value
    assert difference == pytest.approx(gain, abs=5.1e-7)
    assert difference < math.log(2)


@pytest.mark.parametrize(("fpr", "equivalent"), [(0.49, 1.356), (0.01, 1.751), (1e-10, 1.894)])
def test_the_gain_vanishes_at_low_false_alarm_rates(fpr, equivalent):
    power = GLRTAdversary(2.0).roc(fpr).value
    assert SensitivityIndex.from_error_rates(fpr, power).psi == pytest.approx(equivalent, abs=5.1e-4)


def test_one_sampled_step_mixes_the_curve_with_chance():
    assert GLRTAdversary(2.0, 1, 0.1).roc(0.01).value == pytest.approx(0.03723676539602, rel=1e-10)
    assert GLRTAdversary(2.0, 1, 1.0).roc(0.01) == GLRTAdversary(2.0).roc(0.01)


@pytest.mark.parametrize("adversary", [GLRTAdversary(2.0), GLRTAdversary(2.0, 1, 0.1), GLRTAdversary(1.0, 10, 0.5)])
def test_the_symmetric_curve_is_the_convex_hull_of_both_orders(adversary):
    alphas = np.concatenate([np.logspace(-14, -2, 5_000), np.linspace(0.01, 1, 50_001)])
    missed = 1 - adversary.roc_values(alphas)
    tangents = np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 4001)])
    # conjugates: the largest convex curve below both is the envelope of their common tangents
    lowest = np.array([min(np.min(missed + t * alphas), np.min(alphas + t * missed)) for t in tangents])
    probes = np.array([0.001, 0.01, 0.1, 0.2, 0.3, 0.5, 0.8, 0.99])
    hull = np.max(lowest[:, None] - tangents[:, None] * probes, axis=0)
    symmetric = adversary.symmetric_tradeoff_values(probes)
    assert symmetric == pytest.approx(hull, abs=5e-6)
    assert adversary.symmetric_tradeoff_values(symmetric) == pytest.approx(probes, abs=1e-9)
    assert adversary.tradeoff(0.01, symmetric=True).value == pytest.approx(adversary.tradeoff(0.01).value)


def test_composition_depends_on_what_the_attacker_knows_across_steps():
    steps = [GLRTAdversary(0.5)] * 16
    assert SensitivityIndex(0.5).compose(*[SensitivityIndex(0.5)] * 15).roc(0.01) == pytest.approx(0.37208, abs=5e-6)
    assert compose_glrt(steps, "coherent").roc(0.01).value == pytest.approx(0.28237, abs=5e-6)
    assert compose_glrt(steps, "incoherent").roc(0.01).value == pytest.approx(0.05652, abs=5e-6)
    assert compose_glrt([GLRTAdversary(3.0, 2), GLRTAdversary(4.0, 2)]) == GLRTAdversary(5.0, 2)


def test_forgetting_the_sign_at_every_step_weakens_the_attacker_further():
    """T = 100, sigma = 10, level 0.1: worst case 0.389, coherent 0.264, sign forgotten at each step 0.114."""
    steps = [GLRTAdversary(0.1)] * 100
    blind = compose_sampled_glrt(GLRTAdversary(0.1), 100, [0.1])[0]
    assert SensitivityIndex.from_noise_multiplier(10.0, 100).roc(0.1) == pytest.approx(0.389, abs=5e-4)
    assert compose_glrt(steps).roc(0.1).value == pytest.approx(0.264, abs=5e-4)
    assert blind.value == pytest.approx(compose_glrt(steps, "incoherent").roc(0.1).value, abs=1e-4)
    assert blind.method.endswith("forgotten after each of 100 steps), not a guarantee")


@pytest.mark.parametrize("adversary", [GLRTAdversary(2.0, 1, 0.1), GLRTAdversary(1.0, 5, 0.3), GLRTAdversary(3.0)])
def test_numerical_composition_of_one_step_is_the_closed_form(adversary):
    rates = [1e-6, 1e-4, 0.01, 0.1, 0.5]
    composed = [estimate.value for estimate in compose_sampled_glrt(adversary, 1, rates)]
    assert composed == pytest.approx(list(adversary.roc_values(rates)), rel=1e-5)


def test_numerical_composition_agrees_with_a_simulated_attack():
    """20 steps at rate 0.2, mu 2, 400,000 games of each kind; 5 standard errors, doubled for the threshold; seed 15."""
    rng, games, steps, q, mu = np.random.default_rng(15), 400_000, 20, 0.2, 2.0
    scores = []
    for present in (False, True):
        total = np.zeros(games)
        for _ in range(steps):
            y = rng.normal(size=games) + mu * (present & (rng.random(games) < q))
            total += np.log(1 - q + q * np.exp(-(mu**2) / 2) * np.cosh(mu * y))
        scores.append(total)
    expected = compose_sampled_glrt(GLRTAdversary(mu, 1, q), steps, [0.1])[0].value
    power = np.mean(scores[1] > np.quantile(scores[0], 0.9))
    assert power == pytest.approx(expected, abs=10 * math.sqrt(expected * (1 - expected) / games))


def test_attacks_on_a_released_gradient_are_as_strong_as_their_information():
    """One noisy gradient of a linear model; 20,000 trials, 5 standard errors, false-alarm rate 6e-7 each; seed 16."""
    rng, trials, dims, mu = np.random.default_rng(16), 20_000, 10, 2.0
    record, residual = rng.normal(size=dims), 1.7
    gradient = residual * record
    gradient *= mu / np.linalg.norm(gradient)  # clipped to norm mu times the noise std, here 1
    released = gradient + rng.normal(size=(trials, dims))
    along = released @ gradient / mu
    for fpr in (0.01, 0.1):
        attacks = {
            SensitivityIndex(mu).roc(fpr): along > -ndtri(fpr),
            GLRTAdversary(mu).roc(fpr).value: np.abs(along) > -ndtri(fpr / 2),
            GLRTAdversary(mu, dims).roc(fpr).value: np.sum(released**2, axis=1) > chi2.isf(fpr, dims),
        }
        for expected, accused in attacks.items():
            error = math.sqrt(expected * (1 - expected) / trials)
            assert accused.mean() == pytest.approx(expected, abs=5 * error)


def test_nothing_here_can_be_taken_for_a_guarantee():
    adversary = GLRTAdversary(2.0)
    numbers = [
        adversary.roc(0.01), adversary.tradeoff(0.01), adversary.delta(1.0), adversary.delta_reverse(1.0),
        adversary.epsilon(1e-5), adversary.advantage(), adversary.auc(), *adversary.roc([0.1, 0.2]),
    ]  # fmt: skip
    assert all(isinstance(number, Estimate) for number in numbers)
    assert all(number.method.startswith("relaxed adversary (GLRT, ") for number in numbers)
    assert all(number.method.endswith(", not a guarantee") for number in numbers)
    assert not hasattr(adversary, "profile")
    assert "not a guarantee" in adversary.describe()
    assert "37.2 %" in adversary.describe()


def test_the_worst_case_stands_beside_every_relaxation():
    rows = threat_model_table(2.0, [0.01, 0.1], dofs=[3, 100])
    assert [row.fpr for row in rows] == [0.01, 0.1]
    for row in rows:
        assert isinstance(row.worst_case, Certified)
        assert row.worst_case.safe > row.sign_unknown.value > row.direction_unknown[3].value
        assert row.direction_unknown[3].value > row.direction_unknown[100].value > row.fpr
    assert rows[0].worst_case.safe == pytest.approx(0.3720805854355, rel=1e-10)


def test_edges_of_the_curve():
    assert [estimate.value for estimate in GLRTAdversary(2.0).roc([0.0, 1.0])] == [0.0, 1.0]
    assert [estimate.value for estimate in GLRTAdversary(2.0, 7).roc([0.0, 1.0])] == [0.0, 1.0]
    chance = GLRTAdversary(0.0, 3)
    assert (chance.roc(0.3).value, chance.auc().value, chance.delta(0.5).value, chance.epsilon(0.1).value) == (
        0.3, 0.5, 0.0, 0.0,
    )  # fmt: skip
    assert GLRTAdversary(1.0).delta(-0.6).value == pytest.approx(1 - math.exp(-0.6), rel=1e-14)
    assert GLRTAdversary(1.0).delta_reverse(0.5).value == 0.0
    assert GLRTAdversary(50.0).delta(3.0).value == pytest.approx(1.0)
    assert GLRTAdversary(30.0).epsilon(1e-5).value == pytest.approx(
        SensitivityIndex(30.0).epsilon(1e-5) - math.log(2), rel=1e-9
    )


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("mu", lambda: GLRTAdversary(-1.0)),
        ("mu", lambda: GLRTAdversary(math.inf)),
        ("dof", lambda: GLRTAdversary(1.0, 0)),
        ("dof", lambda: GLRTAdversary(1.0, 1.5)),
        ("sampling_rate", lambda: GLRTAdversary(1.0, 1, 0.0)),
        ("fpr", lambda: GLRTAdversary(1.0).roc(1.1)),
        ("epsilon", lambda: GLRTAdversary(1.0).delta(math.inf)),
        ("delta", lambda: GLRTAdversary(1.0).epsilon(0.0)),
        ("adversaries", lambda: compose_glrt([])),
        ("knowledge", lambda: compose_glrt([GLRTAdversary(1.0)], "none")),
        ("dof", lambda: compose_glrt([GLRTAdversary(1.0, 1), GLRTAdversary(1.0, 2)])),
        ("sampling_rate", lambda: compose_glrt([GLRTAdversary(1.0, 1, 0.5)])),
        ("steps", lambda: compose_sampled_glrt(GLRTAdversary(1.0), 0, [0.1])),
    ],
)
def test_a_number_out_of_range_is_named(name, make):
    with pytest.raises(InputError, match=name):
        make()
