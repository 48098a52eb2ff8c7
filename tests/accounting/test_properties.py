"""What holds for every mechanism."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.accounting import (
    BandedGaussian,
    Composition,
    DiscreteGaussian,
    EpsilonTarget,
    FixedSizeGaussian,
    Gaussian,
    Laplace,
    RandomisedResponse,
    SubsampledGaussian,
    Unbounded,
    calibrate,
    mechanism_from_dict,
)
from reticent.errors import InputError

noise = st.floats(1.5, 20)
rates = st.floats(0.005, 0.3)
sampled = st.builds(SubsampledGaussian, noise, rates, st.integers(1, 200))
mechanisms = st.one_of(sampled, st.builds(Gaussian, noise, st.integers(1, 20)))
others = st.one_of(
    st.builds(Laplace, st.floats(0.3, 20), st.floats(0.01, 1), st.integers(1, 20)),
    st.builds(RandomisedResponse, st.floats(0.05, 3), st.integers(2, 6), st.floats(0.05, 1), st.integers(1, 20)),
    st.builds(DiscreteGaussian, st.floats(0.5, 10), st.integers(1, 3), st.floats(0.05, 1), st.integers(1, 20)),
    st.builds(BandedGaussian, noise, st.integers(1, 5), rates, st.integers(1, 200)),
    st.builds(lambda s, n, t: FixedSizeGaussian(s, n, 200, t), noise, st.integers(1, 200), st.integers(1, 50)),
)
quick = settings(max_examples=5, deadline=None)


@quick
@given(st.one_of(mechanisms, others))
def test_delta_falls_as_epsilon_grows_and_bounds_are_in_order(mechanism):
    profile = mechanism.profile()
    deltas = [profile.delta(epsilon) for epsilon in (0.0, 0.03, 0.5, 2.0, 9.0, 60.0)]
    assert all(0 <= value.lower <= value.upper <= 1 for value in deltas)
    for side in ("lower", "upper"):
        values = [getattr(value, side) for value in deltas]
        assert values == sorted(values, reverse=True)


@quick
@given(st.one_of(mechanisms, others))
def test_tradeoff_curve_falls_below_the_diagonal_and_is_dual_to_the_profile(mechanism):
    profile = mechanism.profile()
    alphas = [0.0, 1e-9, 1e-4, 0.01, 0.2, 0.5, 0.9, 1.0]
    betas = profile.tradeoff(alphas)
    lows = [value.lower for value in betas]
    assert lows == sorted(lows, reverse=True)
    assert all(0 <= value.lower <= value.upper <= 1 - alpha + 1e-12 for alpha, value in zip(alphas, betas, strict=True))
    for epsilon in (0.0, 0.3, 2.0):
        delta = profile.delta(epsilon)
        for alpha, beta in zip(alphas, betas, strict=True):
            assert beta.upper >= 1 - delta.upper - math.exp(epsilon) * alpha - 1e-12
            assert delta.lower >= 0 or beta.lower <= 1


@settings(max_examples=15, deadline=None)
@given(st.one_of(mechanisms, others))
def test_the_guaranteed_curve_is_convex_and_its_bounds_are_in_order(mechanism):
    alphas = np.linspace(0, 1, 201)
    curve = mechanism.profile().tradeoff(alphas)
    low, high = (np.array([getattr(beta, side) for beta in curve]) for side in ("lower", "upper"))
    assert (np.diff(low, 2) >= -1e-9).all()
    assert (low <= high).all()
    assert (high <= 1 - alphas + 1e-12).all()


@quick
@given(st.one_of(mechanisms, others), st.floats(1e-6, 0.3))
def test_no_line_under_the_curve_crosses_it_and_epsilon_inverts_delta(mechanism, delta):
    profile = mechanism.profile()
    epsilon = profile.epsilon(delta)
    assert profile.delta(epsilon.upper).upper <= delta * (1 + 1e-9)
    if epsilon.lower > 0:
        assert profile.delta(epsilon.lower * (1 - 1e-9)).upper >= delta * (1 - 1e-9)
    for alpha in (1e-6, 0.01, 0.3):
        power = profile.power(alpha)
        assert power.lower <= delta + math.exp(epsilon.upper) * alpha + 1e-12
        assert power.upper >= alpha * (1 - 1e-9)


@quick
@given(st.floats(0.01, 0.3), st.integers(1, 100), st.floats(1.5, 10))
def test_calibrating_to_what_was_accounted_gives_about_the_same_noise_on_the_safe_side(rate, steps, noise):
    target = EpsilonTarget(SubsampledGaussian(noise, rate, steps).profile().epsilon(1e-6).upper, 1e-6)
    found = calibrate(lambda s: SubsampledGaussian(s, rate, steps), target)
    assert found.achieved.upper <= target.epsilon
    assert noise * (1 - 1e-6) <= found.value <= noise * 1.0003


@quick
@given(sampled, st.floats(1.05, 2.0))
def test_more_noise_is_never_less_private(mechanism, factor):
    quieter = mechanism.profile()
    louder = SubsampledGaussian(mechanism.noise_multiplier * factor, mechanism.sampling_rate, mechanism.steps).profile()
    assert louder.epsilon(1e-5).lower <= quieter.epsilon(1e-5).upper
    assert louder.mu().lower <= quieter.mu().upper
    assert louder.approximate_gdp(1e-8) <= quieter.approximate_gdp(1e-8) + 5e-4
    assert louder.renyi(4) < quieter.renyi(4)


@quick
@given(st.lists(mechanisms, min_size=2, max_size=3))
def test_composition_does_not_depend_on_the_order(parts):
    forwards, backwards = Composition(tuple(parts)), Composition(tuple(reversed(parts)))
    assert forwards.profile().epsilon(1e-5) == backwards.profile().epsilon(1e-5)
    assert forwards.profile().epsilon(1e-5).upper >= parts[0].profile().epsilon(1e-5).lower


@given(
    st.recursive(mechanisms, lambda inner: st.builds(Composition, st.lists(inner, min_size=1, max_size=3).map(tuple)))
)
def test_mechanisms_survive_json(mechanism):
    assert mechanism_from_dict(json.loads(json.dumps(mechanism.to_dict()))) == mechanism


def test_full_sampling_is_the_gaussian_mechanism():
    assert SubsampledGaussian(2.0, 1.0, 9).profile().epsilon(1e-5) == Gaussian(2.0, 9).profile().epsilon(1e-5)


def test_a_job_without_privacy_guarantees_nothing_and_says_so_in_json():
    mechanism = Composition((Gaussian(1.0), Unbounded("comparison twin")))
    profile = mechanism.profile()
    assert profile.epsilon(1e-5).to_dict() == {"lower": None, "upper": None, "kind": "unbounded"}
    assert profile.delta(5.0).upper == profile.advantage().upper == 1.0
    assert profile.tradeoff(0.01).lower == 0.0
    assert mechanism_from_dict(mechanism.to_dict()) == mechanism


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Gaussian(0.0), "noise_multiplier"),
        (lambda: Gaussian(math.nan), "noise_multiplier"),
        (lambda: Gaussian(math.inf), "noise_multiplier"),
        (lambda: SubsampledGaussian(1.0, 1.5, 10), "sampling_rate"),
        (lambda: SubsampledGaussian(1.0, 0.0, 10), "sampling_rate"),
        (lambda: SubsampledGaussian(1.0, 0.1, 0), "steps"),
        (lambda: SubsampledGaussian(1.0, 0.1, 2.5), "steps"),
        (lambda: Gaussian(1.0, unit="image"), "unit"),
        (lambda: Composition(()), "composition"),
        (lambda: Composition((Gaussian(1.0), Gaussian(1.0, unit="record"))), "unit"),
        (lambda: Gaussian(1.0).profile().epsilon(0.0), "delta"),
        (lambda: SubsampledGaussian(1.0, 0.1, 9).profile().epsilon(1.0), "delta"),
        (lambda: SubsampledGaussian(1.0, 0.1, 9).profile().delta(math.nan), "epsilon"),
        (lambda: Gaussian(1.0).profile().tradeoff([0.1, 1.1]), "alpha"),
        (lambda: mechanism_from_dict({"type": "Gaussian", "version": 99}), "version"),
        (
            lambda: mechanism_from_dict(Gaussian(1.0).to_dict() | {"neighbouring_relation": "replace-one"}),
            "replace-one",
        ),
        (lambda: mechanism_from_dict(Gaussian(1.0).to_dict() | {"surprise": 1}), "field"),
    ],
)
def test_wrong_parameters_are_named_in_one_line(make, name):
    with pytest.raises(InputError, match=name) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "mechanism",
    [
        SubsampledGaussian(0.05, 0.01, 20),
        SubsampledGaussian(1000.0, 0.5, 100),
        SubsampledGaussian(5.0, 1e-5, 1_000_000),
        SubsampledGaussian(1.0, 1e-6, 10),
        SubsampledGaussian(0.5, 0.999999, 3),
    ],
)
def test_extreme_parameters_give_ordered_finite_bounds(mechanism):
    profile = mechanism.profile()
    for value in (
        profile.epsilon(1e-5),
        profile.epsilon(1e-30),
        profile.delta(0.01),
        profile.delta(2000.0),
        profile.mu(),
    ):
        assert 0 <= value.lower <= value.upper < math.inf


def test_numpy_numbers_serialise_like_plain_ones():
    mechanism = SubsampledGaussian(np.float64(1.5), np.float64(0.1), np.int64(7))
    assert json.dumps(mechanism.to_dict()) == json.dumps(SubsampledGaussian(1.5, 0.1, 7).to_dict())
