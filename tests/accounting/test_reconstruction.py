"""Reconstruction robustness, 1 - f(prior) (Kaissis et al., "Bounding data reconstruction attacks", 2023)."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from reticent.accounting import (
    BandedGaussian,
    Certified,
    ComplexGaussian,
    Composition,
    DiscreteLoss,
    FixedSizeGaussian,
    Gaussian,
    GLRTAdversary,
    Laplace,
    RandomisedResponse,
    ReconstructionTarget,
    SubsampledGaussian,
    calibrate,
)
from reticent.errors import InputError

E = math.e
quick = settings(max_examples=8, deadline=None)
sampled = st.builds(SubsampledGaussian, st.floats(0.6, 8), st.floats(0.005, 0.4), st.integers(1, 150))


def digits_of(text: str) -> float:
    """One unit in the last place of a number as printed: tables round, or cut off."""
    mantissa, _, exponent = text.partition("e")
    return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def assert_holds(value: Certified, printed: str, loose: float = 2e-3) -> None:
    truth, digit = float(printed), digits_of(printed)
    assert value.lower <= truth + digit
    assert truth - digit <= value.upper <= (truth + digit) * (1 + loose)


GAUSSIAN = {
    0.25: ".598706 .151141 .119782 .0189309 .00225403 2.61184e-4 3.34336e-6",
    0.5: ".691462 .217239 .177203 .0338989 .00479556 6.43155e-4 1.05263e-5",
    1.0: ".841345 .389144 .335026 .0923622 .0182985 3.27382e-3 8.72176e-5",
    2.0: ".977250 .763760 .716990 .372081 .137805 .0428057 2.94877e-3",
    4.0: ".999968 .996721 .994972 .952901 .818527 .610638 .225597",
}
GAUSSIAN_PRIORS = (0.5, 0.1, 1 / 13, 0.01, 1e-3, 1e-4, 1e-6)


@pytest.mark.parametrize("mu", GAUSSIAN)
def test_gaussian_closed_form_under_each_of_its_names(mu):
    same = [
        Gaussian(1 / mu),
        Gaussian(3 / mu, steps=9),
        SubsampledGaussian(2 / mu, 1.0, 4),
        Composition((Gaussian(math.sqrt(2) / mu), SubsampledGaussian(math.sqrt(2) / mu, 1.0, 1))),
        ComplexGaussian(1 / mu),
        ComplexGaussian(1 / mu / math.sqrt(0.4), correlation=-0.6),
        BandedGaussian(2 / mu, bands=3, sampling_rate=1.0, steps=10),
        FixedSizeGaussian(2 / mu, sample_size=70, population=70, steps=1),
    ]
    for mechanism in same:
        profile = mechanism.profile()
        for prior, printed in zip(GAUSSIAN_PRIORS, GAUSSIAN[mu].split(), strict=True):
            assert_holds(profile.reconstruction(prior), printed, loose=1e-9)
            truth = stats.norm.sf(stats.norm.isf(prior) - mu)
            assert profile.reconstruction(prior).upper == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize(
    ("epsilon", "printed"),
    [(1, ".816060 .271828 .0271828"), (2, ".932332 .661662 .0738906"), (4, ".990842 .954211 .542109")],
)
def test_laplace_closed_form(epsilon, printed):
    profile = Laplace(1 / epsilon).profile()
    for prior, row in zip((0.5, 0.1, 0.01), printed.split(), strict=True):
        assert_holds(profile.reconstruction(prior), row)


def test_pure_and_approximate_dp():
    pure, failing = RandomisedResponse(1.0).profile(), DiscreteLoss((-1.0, 1.0), mixed(1 - 1e-5), 1e-5).profile()
    for prior in (0.5, 0.1, 0.01, 1e-3):
        truth = min(E * prior, 1 - (1 - prior) / E)
        assert_holds(pure.reconstruction(prior), f"{truth:.9f}", loose=1e-3)
    for prior, printed in ((0.5, ".816064"), (0.1, ".271838"), (0.01, ".0271928")):
        assert_holds(failing.reconstruction(prior), printed, loose=6e-3)
    assert 1e-5 <= failing.reconstruction(1e-12).upper <= 1.01e-5


def mixed(whole: float) -> tuple[float, float]:
    return whole / (1 + E), whole * E / (1 + E)


PRIORS = (0.1, 0.01, 1e-3, 1e-4)
SAMPLED = {  # (noise multiplier, rate, steps): exact power at these priors, confirmed by two methods
    (0.5, 0.001, 1000): ".147256 .0231208 .00419120 8.36875e-4",
    (0.5, 0.01, 100): ".234362 .0585566 .0153065 .00397325",
    (0.5, 0.01, 1000): ".608394 .275019 .109937 .0408493",
    (0.7, 0.01, 1000): ".310209 .0692044 .0140612 .00273589",
    (0.7, 0.05, 500): ".843557 .531048 .274356 .123937",
    (1, 0.001, 1000): ".107755 .0112563 .00116798 1.21021e-4",
    (1, 0.01, 100): ".127050 .0150574 .00177618 2.12297e-4",
    (1, 0.01, 1000): ".194201 .0291391 .00406845 5.47433e-4",
    (1, 0.01, 10000): ".50507 .15394 .038013 .0083065",
    (1, 0.1, 100): ".469186 .146054 .0387816 .00940293",
    (1, 0.1, 1000): ".991065 .917443 .749263 .533215",
    (2, 0.01, 1000): ".133156 .0155901 .00176459 1.96145e-4",
    (2, 0.1, 100): ".227590 .0377139 .00568030 8.12156e-4",
    (2, 0.1, 1000): ".646343 .255893 .0792469 .0211362",
    (4, 0.5, 100): ".489402 .143819 .0342789 .0072372",
    (4, 1, 100): ".888473 .568931 .277517 .111419",
}


@pytest.mark.parametrize("run", SAMPLED, ids=str)
def test_sampled_gaussians_against_the_exact_power(run):
    profile = SubsampledGaussian(*run).profile()
    for prior, printed in zip(PRIORS, SAMPLED[run].split(), strict=True):
        assert_holds(profile.reconstruction(prior), printed, loose=1e-4)


@pytest.mark.parametrize(
    ("run", "prior", "point", "dots"),
    [
        ((1, 0.01, 1000), 0.1, 0.194201, 0.194254),
        ((1, 0.01, 1000), 0.01, 0.0291391, 0.0291510),
        ((1, 0.1, 100), 0.1, 0.469186, 0.469189),
        ((0.5, 0.001, 1000), 0.1, 0.147255, 0.147302),
        ((2, 0.1, 1000), 0.1, 0.646343, 0.646362),
        ((1, 0.01, 10000), 0.1, 0.505070, 0.505328),
    ],
)
def test_brackets_lie_between_the_power_of_a_test_and_a_coarser_connect_the_dots_bound(run, prior, point, dots):
    found = SubsampledGaussian(*run).profile().reconstruction(prior)
    assert point * (1 - 3e-5) <= found.lower <= found.upper <= dots


def test_shortcuts_that_are_no_bounds_fall_outside():
    tight = SubsampledGaussian(0.5, 0.001, 1000).profile().reconstruction(1e-3)
    central_limit_mu = 0.001 * math.sqrt(1000 * math.expm1(1 / 0.5**2))
    assert stats.norm.sf(stats.norm.isf(1e-3) - central_limit_mu) < tight.lower / 1.9  # unsafe
    assert tight.upper < 0.0096 / 2 < 0.0651  # a normal approximation, an Edgeworth expansion: loose
    assert SubsampledGaussian(1, 0.01, 100).profile().reconstruction(0.01).lower > 0.01465  # Edgeworth: unsafe


@pytest.mark.parametrize(("sigma", "q"), [(1, 0.1), (0.5, 0.01), (2, 0.6), (0.3, 0.9)])
def test_one_sampled_step_has_its_closed_form(sigma, q):
    mechanisms = [SubsampledGaussian(sigma, q, 1), ComplexGaussian(sigma, q), BandedGaussian(sigma, 8, q, 8)]
    for mechanism in mechanisms:
        profile = mechanism.profile()
        for prior in (0.9, 0.1, 0.01, 1e-4, 1e-8):
            truth = (1 - q) * prior + q * stats.norm.sf(stats.norm.isf(prior) - 1 / sigma)
            found = profile.reconstruction(prior)
            assert found.lower <= truth * (1 + 1e-12) <= found.upper * (1 + 2e-12) <= truth * (1 + 1e-4)
    assert SubsampledGaussian(1, 0.1, 1).profile().reconstruction(0.01).upper == pytest.approx(0.0182362, abs=6e-8)


@pytest.mark.parametrize(
    ("run", "reversed_order"),
    [((1, 0.1, 100), ".434 .101 .0187"), ((0.5, 0.01, 1000), ".541 .138 .0261")],
)
def test_the_level_is_spent_under_absence_and_the_power_taken_under_presence(run, reversed_order):
    profile = SubsampledGaussian(*run).profile()
    for prior, printed in zip((0.1, 0.01, 1e-3), reversed_order.split(), strict=True):
        assert profile.reconstruction(prior) == profile.power(prior, "remove")
        assert_holds(profile.power(prior, "add"), printed)
        assert profile.power(prior, "add").upper < profile.reconstruction(prior).lower
        assert profile.power(prior).upper >= profile.reconstruction(prior).lower


@pytest.mark.parametrize(("n", "mu", "printed"), [(10, 1.0, ".340936"), (100, 2.0, ".323219")])
def test_guessing_among_orthogonal_candidates_stays_below_the_bound(n, mu, printed):
    bound = Gaussian(1 / mu).profile().reconstruction(1 / n).upper
    assert best_guess(n, mu) == pytest.approx(float(printed), abs=1e-6)
    assert best_guess(n, mu) < best_guess(n, mu * math.sqrt(n / (n - 1))) < bound  # orthogonal, regular simplex
    assert best_guess(n, mu) > 0.85 * bound


def best_guess(n: int, mu: float) -> float:
    def integrand(z: float) -> float:
        return stats.norm.pdf(z - mu) * stats.norm.cdf(z) ** (n - 1)

    return integrate.quad(integrand, -12, 12 + mu, epsabs=1e-12)[0]


def test_two_antipodal_candidates_meet_the_bound():
    assert best_guess(10, math.sqrt(10 / 9)) == pytest.approx(0.358274, abs=1e-6)
    assert Gaussian(1.0).profile().reconstruction(0.5).upper == pytest.approx(stats.norm.cdf(1), rel=1e-12)


def test_attackers_who_know_less_reconstruct_less():
    for dof, printed in ((1, ".911241 .638894 .282368 .0984340"), (10, ".768569 .325730 .0770230 .0161190")):
        for prior, row in zip((0.5, 0.1, 0.01, 1e-3), printed.split(), strict=True):
            relaxed = GLRTAdversary(2, dof).roc(prior).value
            assert relaxed == pytest.approx(float(row), rel=1e-5)
            assert relaxed < Gaussian(0.5).profile().reconstruction(prior).lower
    assert GLRTAdversary(2, 100).roc(0.1).value == pytest.approx(0.160938, rel=1e-5)


@pytest.mark.parametrize(("sigma", "printed"), [(0.3, ".951"), (1, ".249"), (3, ".089")])
def test_what_images_whose_mean_is_a_good_guess_are_left_with(sigma, printed):
    assert_holds(Gaussian(sigma).profile().reconstruction(0.047), printed)


@quick
@given(sampled)
def test_success_is_increasing_and_concave_in_the_prior_and_never_below_it(mechanism):
    profile = mechanism.profile()
    priors = np.array([1e-12, 1e-9, 1e-6, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95, 0.999])
    found = [profile.reconstruction(float(prior)) for prior in priors]
    everyone = Gaussian(mechanism.noise_multiplier, mechanism.steps).profile()
    for prior, value in zip(priors, found, strict=True):
        assert prior * (1 - 1e-11) <= value.lower <= value.upper <= 1
        assert prior <= value.upper
        assert value.lower <= everyone.reconstruction(float(prior)).upper * (1 + 1e-12)  # sampling only helps
    upper = np.array([value.upper for value in found])
    assert (np.diff(upper) > 0).all()
    chords = np.diff(upper) / np.diff(priors)
    assert (np.diff(chords) <= 1e-9 * chords[:-1]).all()


@quick
@given(sampled, st.floats(1.1, 3.0), st.sampled_from([0.1, 1e-3, 1e-6]))
def test_success_grows_with_steps_and_rate_and_falls_with_noise(mechanism, factor, prior):
    sigma, q, steps = mechanism.noise_multiplier, mechanism.sampling_rate, mechanism.steps
    success = mechanism.profile().reconstruction(prior)
    assert SubsampledGaussian(sigma * factor, q, steps).profile().reconstruction(prior).lower <= success.upper
    assert SubsampledGaussian(sigma, q / factor, steps).profile().reconstruction(prior).lower <= success.upper
    assert (
        SubsampledGaussian(sigma, q, math.ceil(steps * factor)).profile().reconstruction(prior).upper >= success.lower
    )


def test_nothing_is_reconstructed_without_a_prior_where_no_output_gives_the_unit_away():
    for mechanism in (Gaussian(1.0), SubsampledGaussian(1, 0.1, 100), Laplace(0.5, steps=3)):
        found = [mechanism.profile().reconstruction(prior).upper for prior in (1e-6, 1e-9, 1e-12, 1e-15)]
        assert found == sorted(found, reverse=True)
        assert found[-1] < 1e-9


@pytest.mark.parametrize("sigma", [1e-3, 5e-3, 0.0133])
def test_with_hardly_any_noise_a_unit_is_missed_only_where_it_was_never_drawn(sigma):
    """Power 1 - (1-q)^T (1 - prior): the e^1250 between the two masses of a cell once overflowed."""
    q, steps, prior = 0.002, 50, 1e-3
    found = SubsampledGaussian(sigma, q, steps).profile(accuracy=1e-4).reconstruction(prior)
    truth = 1 - (1 - q) ** steps * (1 - prior)
    assert found.lower <= truth * (1 + 1e-9)
    assert truth * (1 - 1e-9) <= found.upper <= truth * 1.005


def test_much_noise_leaves_the_prior():
    for mechanism in (SubsampledGaussian(1e4, 0.1, 100), Gaussian(1e6), Laplace(1e6, 0.5, 10)):
        assert 0.01 <= mechanism.profile().reconstruction(0.01).upper <= 0.01001


@pytest.mark.parametrize("steps", [1, 20])
def test_batches_of_fixed_size_cover_both_orders_of_the_sampled_shift_of_two_clip_norms(steps):
    fixed = FixedSizeGaussian(3.0, 50, 500, steps).profile()
    shifted = SubsampledGaussian(1.5, 0.1, steps).profile()
    for prior in (0.3, 0.1, 0.01, 1e-4):
        bound = fixed.reconstruction(prior)
        assert bound.upper >= shifted.power(prior, "remove").upper * (1 - 1e-4)
        assert bound.upper >= shifted.power(prior, "add").upper * (1 - 1e-4)
        assert bound.lower == pytest.approx(shifted.power(prior, "remove").lower, rel=1e-3)


def test_correlated_parts_of_complex_noise_reconstruct_as_less_real_noise():
    noisier = ComplexGaussian(2.0, 0.1, 100, correlation=0.75).profile()
    for prior, printed in zip(PRIORS, SAMPLED[1, 0.1, 100].split(), strict=True):
        assert_holds(noisier.reconstruction(prior), printed, loose=1e-4)


@pytest.mark.parametrize(
    ("prior", "success", "q", "steps", "truth"),
    [
        (0.1, 0.2, 0.01, 1000, 0.96961),
        (0.01, 0.05, 0.01, 1000, 0.77774),
        (1e-3, 0.01, 0.1, 1000, 4.2205),
        (1e-4, 0.01, 0.1, 1000, 2.3868),
    ],
)
def test_noise_calibrated_to_a_success_rate_is_safe_and_close_to_the_least(prior, success, q, steps, truth):
    target = ReconstructionTarget(prior, success)
    found = calibrate(lambda sigma: SubsampledGaussian(sigma, q, steps), target)
    assert truth * (1 - 1.5e-5) <= found.value <= truth * 1.0003
    assert success * (1 - 1e-3) <= found.profile.reconstruction(prior).upper <= success
    assert found.achieved == found.profile.reconstruction(prior)
    assert SubsampledGaussian(found.violating, q, steps).profile().reconstruction(prior).upper > success


def test_gaussian_noise_calibrated_to_a_success_rate_has_its_closed_form():
    found = calibrate(Gaussian, ReconstructionTarget(0.01, 0.05))
    assert 1.467364 <= found.value <= 1.467364 * 1.0002
    assert found.value >= 1 / (stats.norm.isf(0.01) - stats.norm.isf(0.05))


def test_fixed_size_noise_is_calibrated_too():
    target = ReconstructionTarget(0.01, 0.05)
    found = calibrate(lambda sigma: FixedSizeGaussian(sigma, 10, 1000, 200), target)
    assert 0.999 * 0.05 <= found.achieved.upper <= 0.05


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: ReconstructionTarget(0.1, 0.1), "success is 0.1"),
        (lambda: ReconstructionTarget(0.1, 1.0), "success"),
        (lambda: ReconstructionTarget(0.0, 0.1), "prior"),
        (lambda: SubsampledGaussian(1, 0.1, 9).profile().reconstruction(0.0), "prior"),
        (lambda: Gaussian(1).profile().reconstruction(1.0), "prior"),
    ],
)
def test_priors_and_successes_that_make_no_sense_are_refused_by_name(attempt, message):
    with pytest.raises(InputError, match=message):
        attempt()
