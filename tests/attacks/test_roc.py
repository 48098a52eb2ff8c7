"""Rates and areas of an attack: against scikit-learn, closed forms, and their own false-alarm rates."""

import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from reticent.accounting import Gaussian, SubsampledGaussian
from reticent.attacks import auc, found_at
from reticent.attacks.roc import largest_auc, power_of
from reticent.errors import InputError


def game(mu, members, others, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=members) + mu, rng.normal(size=others)


@pytest.mark.parametrize("digits", [1, 12])
def test_area_and_rates_are_those_of_scikit_learn(digits):
    members, others = (np.round(scores, digits) for scores in game(0.8, 300, 200, 1))
    labels = [1] * 300 + [0] * 200
    scores = np.concatenate([members, others])
    assert auc(members, others)[0] == pytest.approx(roc_auc_score(labels, scores))
    false_alarms, found, _ = roc_curve(labels, scores, drop_intermediate=False)
    for rate in (0.01, 0.1):
        best = found[false_alarms <= rate + 1e-12].max()
        assert found_at(members, others, rate).value == pytest.approx(best)


def test_the_interval_of_the_area_covers_it():
    """Of 300 intervals at 90 %, more than 60 that miss would have a chance below 1e-7."""
    truth = norm.cdf(1 / math.sqrt(2))
    missed = 0
    for seed in range(300):
        _, interval, _ = auc(*game(1.0, 80, 120, seed), confidence=0.9)
        missed += not interval.lower <= truth <= interval.upper
    assert 5 <= missed <= 60


@pytest.mark.parametrize(("rate", "others"), [(0.01, 100), (0.1, 300)])
def test_the_interval_of_a_rate_covers_it_although_the_threshold_is_an_estimate(rate, others):
    """Of 300 intervals at 90 %, more than 60 that miss would have a chance below 1e-7."""
    truth = norm.sf(norm.isf(rate) - 1.5)
    missed = 0
    for seed in range(300):
        found = found_at(*game(1.5, 200, others, seed), rate)
        interval = found.interval(0.9)
        assert interval.lower <= found.value <= interval.upper
        missed += not interval.lower <= truth <= interval.upper
    assert missed <= 60


def test_p_values_of_the_strongest_attack_that_is_admitted_are_not_too_small():
    """Of 300, more than 42 below 0.05 would have a chance below 1e-8; what exceeds the bound is found."""
    power = power_of(Gaussian(1.0).profile())
    p_values = [found_at(*game(1.0, 200, 200, seed), 0.02).p_value(power) for seed in range(300)]
    assert sum(p < 0.05 for p in p_values) <= 42
    assert found_at(*game(4.0, 200, 200, 0), 0.02).p_value(power) < 1e-5


def test_tied_scores_give_nothing_away():
    found = found_at(np.zeros(50), np.zeros(50), 0.1)
    assert found.value == 0
    assert found.p_value(power_of(Gaussian(1.0).profile())) == pytest.approx(1)
    assert auc(np.zeros(50), np.zeros(40))[0] == 0.5


@pytest.mark.parametrize("mu", [0.2, 1.0, 3.0])
def test_the_largest_area_is_a_bound_and_close_to_the_closed_form(mu):
    bound = largest_auc(Gaussian(1 / mu).profile())
    assert norm.cdf(mu / math.sqrt(2)) <= bound <= norm.cdf(mu / math.sqrt(2)) + 0.01


def test_the_largest_area_of_sampled_steps_lies_between_guessing_and_that_of_all_steps_on_everybody():
    bound = largest_auc(SubsampledGaussian(1.0, 0.1, 20).profile())
    assert 0.5 < bound < largest_auc(Gaussian(1.0, 20).profile())


def test_an_attack_is_measured_on_members_and_others():
    for members, others in (([], [1.0]), ([1.0], [])):
        with pytest.raises(InputError, match="measured on both"):
            found_at(members, others, 0.1)
    with pytest.raises(InputError, match="NaN"):
        auc([math.nan], [0.0])
