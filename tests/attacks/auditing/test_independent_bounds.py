"""Lower bounds from independent games: validity, power, and the p-values that belong to them."""

import numpy as np
import pytest
from scipy.stats import binomtest

from reticent.accounting import Gaussian
from reticent.attacks.auditing.independent_bounds import (
    Errors,
    epsilon_at,
    epsilon_p_value,
    errors_at,
    errors_on_half,
    mu_at,
    mu_p_value,
)
from reticent.errors import InputError


def test_limits_are_those_of_clopper_and_pearson():
    upper = Errors(7, 200, 20, 150).upper(0.1)
    for (count, games), limit in zip(((7, 200), (20, 150)), upper, strict=True):
        assert limit == pytest.approx(binomtest(count, games).proportion_ci(0.9).high)
    assert Errors(3, 3, 0, 5).upper(0.1)[0] == 1.0


def test_bounds_by_hand():
    errors = Errors(0, 1000, 500, 1000)
    alarms, misses = errors.upper(0.05)
    assert epsilon_at(errors, 0.01, 0.05) == pytest.approx(np.log((0.99 - misses) / alarms))
    assert epsilon_at(Errors(500, 1000, 500, 1000), 0.01, 0.05) == 0
    assert mu_at(Errors(500, 1000, 500, 1000), 0.05) == 0


@pytest.mark.parametrize("mu", [0.5, 2.0])
def test_violations_stay_within_their_level_and_the_bound_comes_close(mu):
    """200 repetitions at 80 %: more than 68 violations would have a chance below 1e-6."""
    rng = np.random.default_rng(3)
    bounds, epsilons, truth = [], [], Gaussian(1 / mu).profile().epsilon(1e-3).upper
    for seed in range(200):
        inside, outside = rng.normal(size=600) + mu, rng.normal(size=600)
        errors = errors_on_half(inside, outside, seed)
        bounds.append(mu_at(errors, 0.2))
        epsilons.append(epsilon_at(errors, 1e-3, 0.2))
    assert sum(bound > mu for bound in bounds) <= 68
    assert sum(epsilon > truth for epsilon in epsilons) <= 68
    assert np.mean(bounds) > mu - 0.3


def test_p_values_are_the_levels_at_which_a_claim_is_rejected():
    errors = errors_at(np.linspace(-1, 3, 400), np.linspace(-3, 1, 400), 0.0)
    for claim in (0.5, 1.0, 1.3):
        p = mu_p_value(errors, claim)
        assert mu_at(errors, min(1.0, p * 1.01)) >= claim >= mu_at(errors, p * 0.99)
    p = epsilon_p_value(errors, 0.8, 1e-3)
    assert epsilon_at(errors, 1e-3, p * 1.01) >= 0.8 >= epsilon_at(errors, 1e-3, p * 0.99)
    assert mu_p_value(errors, 10.0) == 1.0


def test_too_few_games_are_refused():
    with pytest.raises(InputError, match="at least 4"):
        errors_on_half([1.0, 2.0, 3.0], [0.0] * 10)
