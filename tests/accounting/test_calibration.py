"""Calibrated noise meets its target, and hardly more."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.accounting import (
    AdvantageTarget,
    Composition,
    EpsilonTarget,
    Gaussian,
    MuTarget,
    SubsampledGaussian,
    calibrate,
)
from reticent.errors import InputError

ROWS = [
    (0.01, 10000, EpsilonTarget(1, 1e-5), 3.812816831),
    (0.01, 10000, EpsilonTarget(3, 1e-5), 1.564965535),
    (0.01, 10000, EpsilonTarget(8, 1e-5), 0.8825284903),
    (0.01, 10000, AdvantageTarget(0.1), 4.038769901),
    (0.01, 10000, AdvantageTarget(0.3), 1.458452579),
    (0.032, 3000, EpsilonTarget(1, 1e-5), 6.606033781),
    (0.032, 3000, AdvantageTarget(0.3), 2.368159608),
    (0.25, 500, EpsilonTarget(8, 1e-5), 3.460605840),
    (0.25, 500, AdvantageTarget(0.1), 22.24719563),
]


@pytest.mark.parametrize(("q", "steps", "target", "truth"), ROWS)
def test_sampled_noise_is_at_most_a_five_hundredth_above_the_least(q, steps, target, truth):
    noise = calibrate(lambda sigma: SubsampledGaussian(sigma, q, steps), target).value
    assert truth <= noise <= truth * 1.002


@pytest.mark.parametrize(
    ("target", "truth"),
    [
        (EpsilonTarget(0.5, 1e-5), 7.031826675582),
        (EpsilonTarget(8, 1e-5), 0.600229072199),
        (EpsilonTarget(1, 1e-6), 4.224678889327),
        (AdvantageTarget(0.1), 1 / 0.2513226942),
        (MuTarget(0.5), 2.0),
    ],
)
def test_gaussian_noise_matches_its_closed_form(target, truth):
    assert truth * (1 - 1e-9) <= calibrate(Gaussian, target).value <= truth * 1.0002


@settings(max_examples=4, deadline=None)
@given(st.floats(0.02, 0.4), st.integers(20, 400), st.floats(0.2, 10))
def test_the_answer_is_on_the_safe_side_and_a_little_less_noise_is_not(q, steps, epsilon):
    noise = calibrate(lambda sigma: SubsampledGaussian(sigma, q, steps), EpsilonTarget(epsilon, 1e-5)).value
    assert SubsampledGaussian(noise, q, steps).profile().epsilon(1e-5).upper <= epsilon
    assert SubsampledGaussian(noise / 1.0003, q, steps).profile().epsilon(1e-5).upper > epsilon


def test_a_mu_target_is_met_for_its_range():
    noise = calibrate(lambda sigma: SubsampledGaussian(sigma, 0.1, 150), MuTarget(1.0)).value
    assert 0.999 <= SubsampledGaussian(noise, 0.1, 150).profile().mu().upper <= 1.0


def test_noise_beside_a_fixed_part_keeps_the_whole_within_the_target():
    def make(sigma):
        return Composition((Gaussian(10.0), SubsampledGaussian(sigma, 0.1, 150)))

    noise = calibrate(make, EpsilonTarget(1, 1e-5)).value
    assert make(noise).profile().epsilon(1e-5).upper <= 1
    assert noise > calibrate(lambda sigma: SubsampledGaussian(sigma, 0.1, 150), EpsilonTarget(1, 1e-5)).value


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: EpsilonTarget(0.0, 1e-5), "epsilon"),
        (lambda: EpsilonTarget(1.0, 1.0), "delta"),
        (lambda: EpsilonTarget(1.0, float("nan")), "delta"),
        (lambda: AdvantageTarget(0.0), "advantage"),
        (lambda: MuTarget(-1.0), "mu"),
        (lambda: calibrate(lambda s: SubsampledGaussian(s, 0.1, 150), EpsilonTarget(1e-6, 1e-5)), "epsilon 1e-06"),
        (lambda: calibrate(lambda s: Composition((Gaussian(1.0), Gaussian(s))), MuTarget(0.5)), "mu 0.5"),
    ],
)
def test_unreachable_targets_are_refused_by_name(attempt, message):
    with pytest.raises(InputError, match=message):
        attempt()
