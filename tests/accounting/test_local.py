"""Local mechanisms: a unit's own value is released, so that replacing it moves the release by twice the bound."""

import math

import dp_accounting
import pytest
from dp_accounting.pld import PLDAccountant

from reticent.accounting import (
    Composition,
    EpsilonTarget,
    Gaussian,
    LocalGaussian,
    LocalRandomisedResponse,
    MuTarget,
    RandomisedResponse,
    calibrate,
    to_dp_event,
)
from reticent.errors import InputError


@pytest.mark.parametrize(("noise", "releases"), [(1.2005, 1), (6.575, 30), (2.0, 1), (8.0, 4)])
def test_mu_is_twice_the_root_of_the_releases_over_the_noise_and_epsilon_that_of_dp_accounting(noise, releases):
    mechanism = LocalGaussian(noise, releases)
    assert mechanism.profile().mu(1e-10).upper == pytest.approx(2 * math.sqrt(releases) / noise, rel=1e-12)
    half = dp_accounting.GaussianDpEvent(noise / 2)
    accountant = PLDAccountant(value_discretization_interval=1e-4)
    accountant.compose(dp_accounting.SelfComposedDpEvent(half, releases))
    assert mechanism.profile().epsilon(1e-5).upper == pytest.approx(accountant.get_epsilon(1e-5), abs=1e-3)
    assert to_dp_event(mechanism) in (half, dp_accounting.SelfComposedDpEvent(half, releases))


def test_the_noise_for_a_target_has_its_closed_form():
    """Epsilon 8 at delta 1e-5 is mu 1.66603, which one release has at a noise of 2 / mu."""
    found = calibrate(LocalGaussian, EpsilonTarget(8.0, 1e-5)).value
    assert found == pytest.approx(2 / 1.66603, rel=2e-4)
    assert calibrate(LocalGaussian, MuTarget(0.5)).value == pytest.approx(4.0, rel=1e-4)
    thirty = calibrate(lambda noise: LocalGaussian(noise, 30), EpsilonTarget(8.0, 1e-5)).value
    assert thirty == pytest.approx(6.575, rel=3e-4)


@pytest.mark.parametrize(("epsilon", "categories", "steps"), [(0.4, 2, 1), (1.0, 5, 1), (2.0, 3, 4)])
def test_a_local_response_costs_what_a_response_does(epsilon, categories, steps):
    local = LocalRandomisedResponse(epsilon, categories, steps).profile()
    plain = RandomisedResponse(epsilon, categories, steps=steps).profile()
    for at in (0.0, epsilon / 2, 0.9 * epsilon):
        assert local.delta(at).upper == plain.delta(at).upper
    assert LocalRandomisedResponse(epsilon, categories).profile().epsilon(1e-9).upper <= epsilon * (1 + 1e-9)


def test_features_and_labels_compose_to_more_than_either_and_less_than_their_sum():
    features, labels = LocalGaussian(2.0), LocalRandomisedResponse(0.5, 4)
    both = Composition((features, labels))
    assert both.neighbouring_relation == "replace-one"
    alone = features.profile().epsilon(1e-5).upper
    assert alone < both.profile().epsilon(1e-5).upper <= alone + 0.5 + 1e-6


def test_a_local_release_does_not_compose_with_mechanisms_for_other_neighbours():
    with pytest.raises(InputError, match="neighbouring_relation"):
        Composition((LocalGaussian(2.0), Gaussian(2.0)))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: LocalGaussian(0.0), "noise_multiplier"),
        (lambda: LocalGaussian(1.0, 0), "steps"),
        (lambda: LocalRandomisedResponse(0.0), "epsilon"),
        (lambda: LocalRandomisedResponse(1.0, 1), "categories"),
        (lambda: LocalGaussian(1.0, unit="image"), "unit"),
    ],
)
def test_parameters_out_of_range_are_named(make, name):
    with pytest.raises(InputError, match=name):
        make()
