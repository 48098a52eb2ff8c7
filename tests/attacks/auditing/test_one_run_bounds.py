"""Lower bounds from one run: published values, validity, power, and what must never change them."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from reticent.accounting import EmpiricalLowerBound, Gaussian
from reticent.attacks import epsilon_lower_bound, mu_lower_bound
from reticent.attacks.auditing.one_run_bounds import (
    Guesses,
    epsilon_at,
    epsilon_p_value,
    guess,
    guesses_for,
    mu_at,
    mu_p_value,
    rejects_mu,
)
from reticent.errors import InputError


def gaussian_game(sigma, canaries, seed):
    """Scores of orthogonal canaries under Gaussian noise: (in, out)."""
    rng = np.random.default_rng(seed)
    included = rng.random(canaries) < 0.5
    scores = included + sigma * rng.normal(size=canaries)
    return scores[included], scores[~included]


@pytest.mark.parametrize(
    ("canaries", "made", "right", "delta", "expected"),
    [
        (1000, 100, 75, 1e-4, 0.672985),  # 0.673 and 2.675 are printed by Steinke et al. 2023
        (100_000, 1510, 1439, 1e-5, 2.675851),
        (1000, 100, 75, 0.0, 0.702214),
        (1000, 100, 90, 1e-5, 1.626143),
        (1000, 1000, 600, 1e-5, 0.297227),
        (500, 50, 50, 1e-5, 2.770507),
        (5000, 500, 400, 1e-6, 1.198308),
        (1000, 100, 50, 1e-5, 0.0),
    ],
)
def test_published_values_of_epsilon(canaries, made, right, delta, expected):
    assert epsilon_at(Guesses(canaries, made, right), delta, 0.05) == pytest.approx(expected, abs=1e-6)


def test_without_delta_the_p_value_is_that_of_randomised_response():
    assert epsilon_p_value(Guesses(1000, 100, 80), 1.0, 0.0) == pytest.approx(binom.sf(79, 100, 1 / (1 + np.exp(-1))))


def test_the_recursion_for_mu_agrees_with_its_pseudo_code_in_an_implementation_of_its_own():
    def rejected(made, right, canaries, level, mu):
        found, missed = [0.0] * (right + 1), [0.0] * (right + 1)
        found[right], missed[right] = level * right / canaries, level * (made - right) / canaries
        for i in range(right - 1, -1, -1):
            missed[i] = max(missed[i + 1], norm.cdf(norm.ppf(min(found[i + 1], 1)) - mu))
            found[i] = found[i + 1] + i / (made - i) * (missed[i] - missed[i + 1])
        return found[0] + missed[0] >= made / canaries

    cases = itertools.product((100, 400), (0.2, 1.0), (0.5, 0.7, 0.95), (0.05, 1e-3), (0.1, 0.5, 1.5))
    for canaries, share, quality, level, mu in cases:
        made = int(share * canaries)
        guesses = Guesses(canaries, made, int(quality * made))
        assert rejects_mu(guesses, mu, level) == rejected(made, guesses.right, canaries, level, mu)


@pytest.mark.parametrize("mu", [0.3, 1.0, 3.0])
def test_with_one_canary_the_p_value_is_the_success_of_the_best_guess(mu):
    """The best attack on a mu-Gaussian private algorithm is right with probability Phi(mu / 2)."""
    assert mu_p_value(Guesses(1, 1, 1), mu) == pytest.approx(norm.cdf(mu / 2), rel=1e-6)


def test_validity_and_power_on_the_exact_gaussian_game():
    """60 repetitions at 95 %: 15 violations or more would have a chance below 1e-6; the bounds are far from that."""
    sigma, delta = 1.0, 1e-5
    truth = Gaussian(sigma).profile().epsilon(delta).upper
    plain, gaussian = [], []
    for seed in range(60):
        guesses = guess(*gaussian_game(sigma, 2000, seed), each=100, seed=seed)
        plain.append(epsilon_at(guesses, delta, 0.05))
        gaussian.append(mu_at(guesses, 0.05))
    assert sum(value > truth for value in plain) < 15
    assert sum(value > 1 / sigma for value in gaussian) < 15
    # Means over 200 repetitions elsewhere: 1.831, and 2.717 by way of mu; the standard errors here are below 0.07.
    assert np.mean(plain) == pytest.approx(1.831, abs=0.3)
    converted = [Gaussian(1 / mu).profile().epsilon(delta).lower for mu in gaussian]
    assert np.mean(converted) == pytest.approx(2.717, abs=0.35)


def test_scores_that_tell_nothing_prove_nothing():
    for method in ("one-run", "one-run-gaussian", "independent", "independent-gaussian"):
        assert epsilon_lower_bound(np.zeros(500), np.zeros(480), 1e-5, method=method).value == 0
    # The order in which equal scores are given must not be seen: all in first would else be guessed rightly.
    assert guess(np.zeros(500), np.zeros(500), 100).right < 140


def test_infinite_scores_are_scores_and_nan_is_refused():
    perfect = guess(np.full(300, np.inf), np.full(300, -np.inf), 100)
    assert perfect.right == perfect.made == 200
    with pytest.raises(InputError, match="NaN"):
        guess([1.0, np.nan], [0.0, 0.0], 1)
    with pytest.raises(InputError, match="guesses"):
        guess([1.0], [0.0], 2)
    with pytest.raises(InputError, match="right of"):
        Guesses(10, 5, 6)


@settings(max_examples=25, deadline=None)
@given(canaries=st.integers(50, 800), share=st.floats(0.05, 1), quality=st.floats(0, 1), level=st.floats(1e-4, 0.2))
def test_more_right_guesses_prove_more_and_more_confidence_less(canaries, share, quality, level):
    made = max(2, int(share * canaries))
    right = min(made - 1, int(quality * made))
    fewer, more = Guesses(canaries, made, right), Guesses(canaries, made, right + 1)
    for bound in (lambda g, a: epsilon_at(g, 1e-5, a), mu_at):
        assert bound(more, level) >= bound(fewer, level) - 1e-9
        assert bound(more, level) >= bound(more, level / 2) - 1e-9


@settings(max_examples=25, deadline=None)
@given(right=st.integers(50, 100), mu=st.floats(0.05, 2))
def test_a_p_value_is_the_smallest_level_that_rejects(right, mu):
    guesses = Guesses(1000, 100, right)
    p = mu_p_value(guesses, mu)
    assert p == 1.0 or (rejects_mu(guesses, mu, p * 1.001) and not rejects_mu(guesses, mu, p * 0.999))


def test_the_number_of_guesses_is_chosen_without_scores_and_suits_what_is_expected():
    few = guesses_for(1000, 0.5, lambda g: epsilon_at(g, 1e-5, 0.05))
    many = guesses_for(1000, 4.0, lambda g: mu_at(g, 0.05))
    assert few < many <= 500


def test_an_empirical_bound_prints_unlike_a_certified_one_and_says_its_confidence():
    inside, outside = gaussian_game(0.5, 1000, 1)
    bound = mu_lower_bound(inside, outside, 0.99, expected_mu=2.0)
    assert isinstance(bound, EmpiricalLowerBound)
    assert 0 < bound.value < 2
    assert str(bound).startswith("≥ ")
    assert str(bound).endswith("(99 %)")
    stored = bound.to_dict()
    assert (stored["kind"], stored["upper"], stored["confidence"]) == ("empirical lower bound", None, 0.99)
