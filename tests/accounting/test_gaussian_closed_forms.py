"""The Gaussian mechanism against 40-digit values of its closed forms, whatever the split into steps."""

import math

import mpmath
import pytest

from reticent.accounting import Composition, Gaussian
from reticent.accounting.gaussian import log_delta

# mu, delta(1), epsilon(1e-5), epsilon(1e-6), advantage, power at type I error 0.01 and 0.001
TABLE = [
    (0.1, 1.230835983643e-25, 0.3406693646843, 0.3968573776441, 0.03987761167674, 0.01299544454615, 0.001393826756834),
    (0.5, 0.006829594983115, 1.993091404415, 2.25408465022, 0.1974126513658, 0.03389893912284, 0.004795559209142),
    (1.0, 0.1269367375066, 4.377178095681, 4.886554117462, 0.382924922548, 0.09236224807369, 0.01829846840566),
    (2.0, 0.5098616600547, 9.997256146434, 10.99715121422, 0.6826894921371, 0.3720805854355, 0.1378054128983),
    (4.0, 0.9267112812555, 24.38161088311, 26.35696392533, 0.9544997361036, 0.952900506156, 0.818527482275),
]


@pytest.mark.parametrize(("mu", "delta", "epsilon5", "epsilon6", "advantage", "power2", "power3"), TABLE)
def test_every_number_matches_its_closed_form(mu, delta, epsilon5, epsilon6, advantage, power2, power3):
    profile = Gaussian(noise_multiplier=10 / mu, steps=100).profile()
    assert profile.delta(1.0).upper == pytest.approx(delta, rel=1e-10)
    assert profile.epsilon(1e-5).upper == pytest.approx(epsilon5, rel=1e-10)
    assert profile.epsilon(1e-6).upper == pytest.approx(epsilon6, rel=1e-10)
    assert profile.advantage().upper == pytest.approx(advantage, rel=1e-10)
    assert 1 - profile.tradeoff(0.01).lower == pytest.approx(power2, rel=1e-10)
    assert 1 - profile.tradeoff(0.001).lower == pytest.approx(power3, rel=1e-10)
    assert profile.mu().upper == pytest.approx(mu, rel=1e-12)
    assert profile.epsilon(1e-5).exact


def test_tails_neither_cancel_nor_overflow():
    profile = Gaussian(noise_multiplier=10, steps=100).profile()
    assert profile.delta(7.0).upper == pytest.approx(5.167629704e-12, rel=1e-8)
    assert profile.delta(10.0).upper == pytest.approx(9.812705827e-23, rel=1e-8)
    assert profile.delta(2000.0).upper == 0.0
    assert math.isfinite(Gaussian(noise_multiplier=1e-3).profile().epsilon(1e-5).upper)


def test_epsilon_is_on_the_safe_side_of_delta():
    profile = Gaussian(noise_multiplier=1.7).profile()
    assert profile.delta(profile.epsilon(1e-5).upper).upper <= 1e-5


def test_gaussians_compose_exactly_to_one_gaussian():
    parts = Composition((Gaussian(3.0, steps=4), Gaussian(1.5)))
    assert parts.profile().mu().upper == pytest.approx(math.sqrt(4 / 9 + 1 / 2.25), rel=1e-12)
    assert parts.profile().epsilon(1e-5).exact


@pytest.mark.parametrize("mu", [1e-6, 1e-3, 0.05, 0.3, 1.0, 20.0, 1e4])
def test_delta_keeps_its_digits_for_any_mu(mu):
    with mpmath.workdps(60):
        for a in (-38.0, -12.0, -3.0, -0.5, 0.0):
            epsilon = mu * (mu / 2 - a)
            low, e = mpmath.mpf(mu), mpmath.mpf(epsilon)
            truth = mpmath.ncdf(low / 2 - e / low) - mpmath.exp(e) * mpmath.ncdf(-low / 2 - e / low)
            assert math.exp(float(log_delta(mu, epsilon) - mpmath.log(truth))) == pytest.approx(1, rel=3e-11)


def test_negative_epsilons_follow_the_reflection_and_groups_multiply_mu():
    profile = Gaussian(1.25).profile()
    for epsilon in (0.2, 3.0):
        reflected = 1 - math.exp(-epsilon) + math.exp(-epsilon) * profile.delta(epsilon).upper
        assert profile.delta(-epsilon).upper == pytest.approx(reflected, rel=1e-14)
    epsilon = Gaussian(1.25 / 3).profile().epsilon(1e-5).upper
    assert profile.group(3).epsilon(1e-5).upper == pytest.approx(epsilon, rel=1e-12)
