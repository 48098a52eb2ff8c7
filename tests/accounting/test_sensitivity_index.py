"""The sensitivity index: 40-digit values of its closed forms, its identities, and simulated attackers.

Simulations have fixed seeds and a false-alarm rate below 1e-6: 5 standard errors of a Gaussian.
"""

import math

import numpy as np
import pytest
from scipy.special import ndtri

from reticent.accounting.sensitivity_index import SensitivityIndex, central_limit_psi
from reticent.accounting.values import Estimate
from reticent.errors import InputError

# psi, epsilon(1e-5), advantage, AUC, TPR at FPR 0.01, KL = rho, Bhattacharyya coefficient
TABLE = [
    (0.5, 1.993091404415, 0.1974126513658, 0.6381631950841, 0.03389893912284, 0.125, 0.969233234476344),
    (1.0, 4.377178095681, 0.382924922548, 0.7602499389065, 0.09236224807369, 0.5, 0.882496902584595),
    (2.0, 9.997256146434, 0.6826894921371, 0.9213503964749, 0.3720805854355, 2.0, 0.606530659712633),
    (4.0, 24.38161088311, 0.9544997361036, 0.9976611325095, 0.952900506156, 8.0, 0.135335283236613),
]


@pytest.mark.parametrize(("psi", "epsilon", "advantage", "auc", "power", "kl", "bhattacharyya"), TABLE)
def test_every_language_of_privacy_is_read_off_psi(psi, epsilon, advantage, auc, power, kl, bhattacharyya):
    index = SensitivityIndex(psi)
    assert index.epsilon(1e-5) == pytest.approx(epsilon, rel=1e-10)
    assert index.advantage == pytest.approx(advantage, rel=1e-10)
    assert index.auc == pytest.approx(auc, rel=1e-10)
    assert index.roc(0.01) == pytest.approx(power, rel=1e-10)
    assert index.kl == index.zcdp == index.renyi(1.0) == kl
    assert index.bhattacharyya == pytest.approx(bhattacharyya, rel=1e-10)


def test_noise_is_calibrated_exactly_not_by_the_classical_formula():
    std = SensitivityIndex.from_epsilon_delta(epsilon=1.0, delta=1e-5).noise_std(sensitivity=1.0)
    assert std == pytest.approx(3.730631634816, rel=1e-10)
    assert math.sqrt(2 * math.log(1.25 / 1e-5)) == pytest.approx(4.8448, abs=1e-4)


def test_far_tails_keep_their_digits():
    index = SensitivityIndex(1.0)
    assert index.delta(10.0) == pytest.approx(9.812705827e-23, rel=1e-8)
    assert index.delta(800.0) == 0.0
    assert index.log_delta(800.0) == pytest.approx(-(799.5**2) / 2, rel=1e-4)
    assert index.log_roc(math.log(0.01)) == pytest.approx(math.log(index.roc(0.01)), rel=1e-12)
    assert -1e4 < index.log_roc(-1e4) < -9.8e3


@pytest.mark.parametrize("psi", [0.1, 0.5, 1.0, 2.0, 4.0])
def test_every_constructor_inverts_its_number(psi):
    index = SensitivityIndex(psi)
    for delta in (1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12, 1e-14):
        if index.epsilon(delta) > 0:
            again = SensitivityIndex.from_epsilon_delta(index.epsilon(delta), delta)
            assert again.psi == pytest.approx(psi, abs=1e-10)
    assert SensitivityIndex.from_auc(index.auc).psi == pytest.approx(psi, abs=1e-10)
    assert SensitivityIndex.from_advantage(index.advantage).psi == pytest.approx(psi, abs=1e-10)
    assert SensitivityIndex.from_epsilon_delta(0.0, index.advantage).psi == pytest.approx(psi, abs=1e-10)
    assert SensitivityIndex.from_error_rates(0.01, index.roc(0.01)).psi == pytest.approx(psi, abs=1e-10)
    assert SensitivityIndex.from_zcdp(index.zcdp).psi == pytest.approx(psi, rel=1e-14)
    assert SensitivityIndex.from_sigma(3.0, index.noise_std(3.0)).psi == pytest.approx(psi, rel=1e-14)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0, 3.0, 6.0])
def test_delta_is_the_dual_of_the_tradeoff_curve(epsilon):
    index = SensitivityIndex(1.0)
    alphas = np.concatenate([np.logspace(-14, -3, 200_000), np.linspace(1e-3, 1, 1_000_000)])
    touching = np.max(1 - index.tradeoff(alphas) - math.exp(epsilon) * alphas)
    assert touching == pytest.approx(index.delta(epsilon), abs=1e-9)
    at = 0.5 * math.erfc((epsilon / index.psi + index.psi / 2) / math.sqrt(2))  # where the loss exceeds epsilon
    slope = (index.tradeoff(at * 1.0001) - index.tradeoff(at * 0.9999)) / (0.0002 * at)
    assert slope == pytest.approx(-math.exp(epsilon), rel=1e-4)


def test_a_hundred_steps_compose_to_one():
    composed = SensitivityIndex.from_noise_multiplier(10.0, steps=100)
    assert composed.psi == pytest.approx(1.0, rel=1e-15)
    one = SensitivityIndex.from_noise_multiplier(10.0)
    assert one.compose(*[one] * 99).psi == pytest.approx(1.0, rel=1e-14)
    assert composed.epsilon(1e-5) == pytest.approx(4.377178095681, rel=1e-10)
    orders = np.linspace(1.1, 63, 10_000)
    renyi = orders / 2 + np.log((orders - 1) / orders) - (math.log(1e-5) + np.log(orders)) / (orders - 1)
    assert renyi.min() == pytest.approx(4.7285, abs=1e-3)  # what a Rényi accountant makes of it


def test_the_privacy_loss_distribution_of_dp_accounting_agrees_from_above():
    pld = pytest.importorskip("dp_accounting.pld.privacy_loss_distribution")
    peer = pld.from_gaussian_mechanism(10.0, value_discretization_interval=1e-5).self_compose(100)
    exact = SensitivityIndex.from_noise_multiplier(10.0, steps=100).epsilon(1e-5)
    assert exact <= peer.get_epsilon_for_delta(1e-5) <= exact + 1e-5


def test_simulated_likelihood_ratio_attackers_reach_the_roc_and_the_auc():
    """A million draws of each; 5 standard errors, false-alarm rate 6e-7 each; seed 22."""
    rng = np.random.default_rng(22)
    absent, present = rng.normal(size=1_000_000), rng.normal(1.0, size=1_000_000)
    index = SensitivityIndex(1.0)
    share = np.searchsorted(np.sort(absent), present).mean() / 1e6
    assert share == pytest.approx(index.auc, abs=5 * 3.2e-4)
    power = np.mean(present > -ndtri(0.01))
    assert power == pytest.approx(index.roc(0.01), abs=5 * math.sqrt(0.0924 * 0.9076 / 1e6))


def test_dimension_does_not_matter():
    """A query in R^1000 that differs by norm 1 in a random direction; 20,000 draws, 5 standard errors; seed 23."""
    rng = np.random.default_rng(23)
    direction = rng.normal(size=1000)
    direction /= np.linalg.norm(direction)
    scores = rng.normal(size=(20_000, 1000)) @ direction
    for fpr in (0.01, 0.1):
        expected = SensitivityIndex.from_sigma(1.0, 1.0).roc(fpr)
        power = np.mean(scores + direction @ direction > -ndtri(fpr))
        assert power == pytest.approx(expected, abs=5 * math.sqrt(expected * (1 - expected) / 20_000))
    assert SensitivityIndex.from_covariance(direction, np.eye(1000)).psi == pytest.approx(1.0, rel=1e-12)


def test_noise_of_any_covariance_is_measured_by_the_mahalanobis_distance():
    covariance = np.array([[2.0, 0.5], [0.5, 1.0]])
    difference = np.array([1.0, 2.0])
    index = SensitivityIndex.from_covariance(difference, covariance)
    assert index.psi**2 == pytest.approx(difference @ np.linalg.solve(covariance, difference), rel=1e-13)
    blocks = SensitivityIndex.from_sigma(1.0, 2.0).compose(SensitivityIndex.from_sigma(3.0, 4.0))
    assert SensitivityIndex.from_covariance([1, 3], np.diag([4.0, 16.0])).psi == pytest.approx(blocks.psi, rel=1e-13)
    noiseless = np.diag([1.0, 0.0])
    assert SensitivityIndex.from_covariance([1, 1e-3], noiseless).psi == math.inf
    assert SensitivityIndex.from_covariance([2, 0], noiseless).psi == pytest.approx(2.0)


def test_a_group_of_three_has_three_times_the_index_in_every_view():
    index = SensitivityIndex(0.7)
    group = index.group(3)
    assert group == SensitivityIndex(3 * 0.7)
    assert group.renyi(5.0) == pytest.approx(9 * index.renyi(5.0))
    assert group.epsilon(1e-5) != pytest.approx(3 * index.epsilon(1e-5), rel=1e-2)


@pytest.mark.parametrize("prior", [0.01, 0.1, 0.5, 0.8])
def test_the_bayes_error_is_the_smallest_over_all_thresholds_and_follows_from_delta(prior):
    index = SensitivityIndex(1.0)
    alphas = np.concatenate([np.logspace(-12, -3, 100_000), np.linspace(1e-3, 1, 1_000_000)])
    smallest = np.min(prior * alphas + (1 - prior) * index.tradeoff(alphas))
    assert index.bayes_error(prior) == pytest.approx(smallest, abs=1e-9)
    from_delta = (1 - prior) * (1 - index.delta(math.log(prior / (1 - prior))))
    assert index.bayes_error(prior) == pytest.approx(from_delta, abs=1e-13)
    assert index.bayes_error(prior) == pytest.approx(index.bayes_error(1 - prior), rel=1e-12)


def test_bayes_errors_of_the_published_priors():
    index = SensitivityIndex(1.0)
    assert index.bayes_error(0.1) == pytest.approx(0.0986636939, abs=1e-10)
    assert index.bayes_error(0.5) == pytest.approx(0.3085375387, abs=1e-10)


def test_a_sampled_run_is_refused_and_its_central_limit_index_is_an_estimate():
    with pytest.raises(InputError, match="SubsampledGaussian"):
        SensitivityIndex.from_noise_multiplier(1.0, steps=1000, sampling_rate=0.01)
    estimate = central_limit_psi(1.0, 0.01, 1000)
    assert isinstance(estimate, Estimate)
    assert "not a guarantee" in estimate.method
    assert estimate.value == pytest.approx(0.01 * math.sqrt(1000 * (math.e - 1)))


def test_perfect_privacy_and_none_are_the_two_ends():
    perfect, none = SensitivityIndex(0.0), SensitivityIndex(math.inf)
    assert perfect == SensitivityIndex.from_sigma(1.0, math.inf) == SensitivityIndex.from_sigma(0.0, 0.0)
    assert none == SensitivityIndex.from_sigma(1.0, 0.0) == SensitivityIndex.from_noise_multiplier(0.0)
    assert (perfect.delta(1.0), perfect.epsilon(1e-9), perfect.auc, perfect.bayes_error(0.3)) == (0.0, 0.0, 0.5, 0.3)
    assert perfect.delta(-1.0) == pytest.approx(1 - math.exp(-1))
    assert (none.delta(5.0), none.epsilon(0.5), none.auc, none.bayes_error(0.3)) == (1.0, math.inf, 1.0, 0.0)
    rates = np.array([0.0, 0.25, 1.0])
    assert perfect.roc(rates) == pytest.approx(rates)
    assert list(none.roc(rates)) == [1.0, 1.0, 1.0]
    assert list(none.tradeoff(rates)) == [0.0, 0.0, 0.0]
    assert (SensitivityIndex.from_auc(1.0), SensitivityIndex.from_auc(0.5)) == (none, perfect)
    assert (perfect.noise_std(1.0), none.noise_std(1.0)) == (math.inf, 0.0)


def test_a_clinician_reads_shares_of_people():
    sentence = SensitivityIndex(1.0).interpret(fpr=0.01)
    assert "1 % of all outsiders recognises 9.24 % of the participants" in sentence
    assert "76.1 %" in sentence
    assert "recognises 1 % of the participants" in SensitivityIndex(0.0).interpret()


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("psi", lambda: SensitivityIndex(-1.0)),
        ("psi", lambda: SensitivityIndex(math.nan)),
        ("std", lambda: SensitivityIndex.from_sigma(1.0, -1.0)),
        ("sensitivity", lambda: SensitivityIndex.from_sigma(math.inf, 1.0)),
        ("noise_multiplier", lambda: SensitivityIndex.from_noise_multiplier(math.nan)),
        ("steps", lambda: SensitivityIndex.from_noise_multiplier(1.0, steps=0)),
        ("epsilon", lambda: SensitivityIndex.from_epsilon_delta(-1.0, 1e-5)),
        ("delta", lambda: SensitivityIndex.from_epsilon_delta(1.0, 0.0)),
        ("auc", lambda: SensitivityIndex.from_auc(0.4)),
        ("advantage", lambda: SensitivityIndex.from_advantage(1.1)),
        ("tpr", lambda: SensitivityIndex.from_error_rates(0.1, 0.05)),
        ("rho", lambda: SensitivityIndex.from_zcdp(-0.1)),
        ("covariance", lambda: SensitivityIndex.from_covariance([1, 0], [[1, 2], [2, 1]])),
        ("covariance", lambda: SensitivityIndex.from_covariance([1, 0], [[1, 1], [0, 1]])),
        ("covariance", lambda: SensitivityIndex.from_covariance([1, 0, 0], np.eye(2))),
        ("order", lambda: SensitivityIndex(1.0).renyi(0.0)),
        ("fpr", lambda: SensitivityIndex(1.0).roc([0.1, 1.5])),
        ("k", lambda: SensitivityIndex(1.0).group(0)),
        ("prior", lambda: SensitivityIndex(1.0).bayes_error(-0.1)),
    ],
)
def test_a_number_out_of_range_is_named(name, make):
    with pytest.raises(InputError, match=name):
        make()
