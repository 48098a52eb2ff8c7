"""Calibrated noise meets its target, and hardly more.

Truths are closed forms, or roots found with contour integrals (10 digits). Statistical tests have fixed seeds and a
false-alarm rate of at most 1e-6.
"""

import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import beta

from reticent.accounting import (
    AdvantageTarget,
    Composition,
    EpsilonTarget,
    ErrorRatesTarget,
    Gaussian,
    Laplace,
    MuTarget,
    PrecisionTarget,
    ReconstructionTarget,
    SensitivityIndex,
    SubsampledGaussian,
    calibrate,
    central_limit_psi,
    two_step,
)
from reticent.cli import main
from reticent.errors import InputError

ROWS = [
    (0.01, 10000, EpsilonTarget(1, 1e-5), 3.812816831),
    (0.01, 10000, EpsilonTarget(3, 1e-5), 1.564965535),
    (0.01, 10000, EpsilonTarget(8, 1e-5), 0.8825284903),
    (0.01, 10000, AdvantageTarget(0.1), 4.038769901),
    (0.01, 10000, AdvantageTarget(0.3), 1.458452579),
    (0.01, 10000, ErrorRatesTarget(0.01, 0.05), 1.624017477),
    (0.01, 10000, ErrorRatesTarget(0.001, 0.02), 1.176260929),
    (0.032, 3000, EpsilonTarget(1, 1e-5), 6.606033781),
    (0.032, 3000, EpsilonTarget(3, 1e-5), 2.562521048),
    (0.032, 3000, EpsilonTarget(8, 1e-5), 1.267149997),
    (0.032, 3000, AdvantageTarget(0.1), 7.006202018),
    (0.032, 3000, AdvantageTarget(0.3), 2.368159608),
    (0.032, 3000, ErrorRatesTarget(0.01, 0.05), 2.673492088),
    (0.032, 3000, ErrorRatesTarget(0.001, 0.02), 1.834931229),
    (0.25, 500, EpsilonTarget(1, 1e-5), 20.92178349),
    (0.25, 500, EpsilonTarget(3, 1e-5), 7.855040962),
    (0.25, 500, EpsilonTarget(8, 1e-5), 3.460605840),
    (0.25, 500, AdvantageTarget(0.1), 22.24719563),
]


@pytest.mark.parametrize(("q", "steps", "target", "truth"), ROWS)
def test_sampled_noise_is_at_most_a_ten_thousandth_above_the_least(q, steps, target, truth):
    noise = calibrate(lambda sigma: SubsampledGaussian(sigma, q, steps), target).value
    assert truth * (1 - 1e-9) <= noise <= truth * 1.0001


@pytest.mark.parametrize(
    ("target", "truth"),
    [
        (EpsilonTarget(0.5, 1e-5), 7.031826675582),
        (EpsilonTarget(8, 1e-5), 0.600229072199),
        (EpsilonTarget(1, 1e-6), 4.224678889327),
        (AdvantageTarget(0.1), 1 / 0.2513226937101),
        (MuTarget(0.5), 2.0),
    ],
)
def test_gaussian_noise_matches_its_closed_form(target, truth):
    assert truth * (1 - 1e-9) <= calibrate(Gaussian, target).value <= truth * 1.0001


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
        (lambda: ErrorRatesTarget(0.05, 0.05), "guessing reaches 0.05"),
        (lambda: ErrorRatesTarget(0.05, 0.01), "give a larger tpr"),
        (lambda: PrecisionTarget(0.1, 0.2, 0.01), "guessing has 0.2"),
        (lambda: PrecisionTarget(0.9, 0.5, 0.5), "above what any attack reaches"),
        (lambda: ReconstructionTarget(0.1, 0.1), "give a larger success"),
        (lambda: two_step(Gaussian, AdvantageTarget(0.1), 1.0), "delta"),
        (lambda: calibrate(lambda t: SubsampledGaussian(1.0, 1.0, t), MuTarget(0.5), "steps"), "steps"),
        (lambda: calibrate(lambda s: SubsampledGaussian(s, 0.1, 150), EpsilonTarget(1e-6, 1e-5)), "epsilon 1e-06"),
        (lambda: calibrate(lambda s: Composition((Gaussian(1.0), Gaussian(s))), MuTarget(0.5)), "mu 0.5"),
    ],
)
def test_unreachable_targets_are_refused_by_name(attempt, message):
    with pytest.raises(InputError, match=message):
        attempt()


def every_target():
    return [
        EpsilonTarget(2, 1e-5),
        MuTarget(0.5),
        AdvantageTarget(0.1),
        ErrorRatesTarget(0.01, 0.05),
        PrecisionTarget(0.05, 0.01, 0.01),
        ReconstructionTarget(1e-3, 0.02),
    ]


@pytest.mark.parametrize("target", every_target(), ids=str)
def test_the_direct_route_never_needs_more_noise_than_the_detour_by_way_of_epsilon(target):
    for make in (Gaussian, lambda sigma: SubsampledGaussian(sigma, 0.1, 150)):
        direct, detour = calibrate(make, target), two_step(make, target, 1e-5)
        assert direct.achieved.upper <= target.value
        assert direct.achieved == target.achieved(direct.profile)
        assert direct.violating < direct.value <= direct.violating * 1.000101
        assert target.achieved(make(direct.violating).profile()).upper > target.value
        if isinstance(target, EpsilonTarget | MuTarget):
            assert (detour is None) == isinstance(target, MuTarget)
        else:
            assert detour.value > direct.value * 1.05
            assert target.achieved(detour.profile).upper <= target.value


DIRECT = [  # q = 0.001, T = 10000: epsilon(1e-5) that implies the target, its noise; the noise needed, its epsilon
    (AdvantageTarget(0.1), 0.2007, 1.7817, 0.7037, 1.218),
    (AdvantageTarget(0.2), 0.4054, 1.0950, 0.5346, 3.989),
    (ErrorRatesTarget(0.01, 0.15), 2.7080, 0.5867, 0.4242, 10.20),
    (ErrorRatesTarget(0.01, 0.50), 3.9120, 0.5371, 0.3413, 24.79),
    (ErrorRatesTarget(0.05, 0.15), 1.0985, 0.7223, 0.5241, 4.32),
    (ErrorRatesTarget(0.10, 0.50), 1.6094, 0.6598, 0.4051, 12.32),
]


@pytest.mark.parametrize(("target", "epsilon", "standard", "direct", "epsilon_of_direct"), DIRECT, ids=str)
def test_noise_by_way_of_epsilon_and_the_noise_needed_are_those_of_the_paper_setting(
    target, epsilon, standard, direct, epsilon_of_direct
):
    assert target.implied_epsilon(1e-5) == pytest.approx(epsilon, abs=6e-5)
    less, more = (
        target.achieved(SubsampledGaussian(direct + step, 0.001, 10000).profile(1e-4)).upper for step in (2e-4, -2e-4)
    )
    assert less <= target.value < more
    profile = SubsampledGaussian(direct, 0.001, 10000).profile()
    assert profile.epsilon(1e-5).upper == pytest.approx(epsilon_of_direct, rel=2e-3)
    detour = two_step(lambda sigma: SubsampledGaussian(sigma, 0.001, 10000), target, 1e-5)
    assert detour.value == pytest.approx(standard, abs=2e-4)


@pytest.mark.parametrize(("advantage", "standard", "direct"), [(0.02, 7.1212, 2.1113), (0.05, 3.1674, 1.0273)])
def test_a_small_advantage_takes_the_noise_of_the_central_limit(advantage, standard, direct):
    # So many weak steps are nearly Gaussian, of mu = q sqrt(T (e^(1/sigma^2) - 1)).
    target = AdvantageTarget(advantage)
    for noise, mu in (
        (direct, SensitivityIndex.from_advantage(advantage).psi),
        (standard, SensitivityIndex.from_epsilon_delta(target.implied_epsilon(1e-5), 1e-5).psi),
    ):
        assert central_limit_psi(noise, 0.001, 10000).value == pytest.approx(mu, rel=6e-3)
    make = lambda sigma: SubsampledGaussian(sigma, 0.001, 10000)  # noqa: E731
    assert calibrate(make, target).value == pytest.approx(direct, abs=2e-4)
    assert two_step(make, target, 1e-5).value == pytest.approx(standard, abs=5e-4)


def claimed_power(epsilon, alpha):
    """1 - f(alpha) of the worst (epsilon, 1e-5) mechanism (Kulynych et al., 2024)."""
    return min(1.0, 1e-5 + math.exp(epsilon) * alpha, 1 - math.exp(-epsilon) * (1 - 1e-5 - alpha))


def gpt_2(noise_multiplier):
    return SubsampledGaussian(noise_multiplier, 0.0038010957846441, 792)


def cifar_10(noise_multiplier, epochs):
    training = SubsampledGaussian(noise_multiplier, 8192 / 50000, 7 * epochs)
    return Composition((training, Gaussian(8.0, steps=2)))  # two normalisation queries


RUNS = [  # epsilon(1e-5), advantage, TPR at FPR 0.01, 0.05 and 0.1: claimed by way of epsilon, true bound; last digit
    (gpt_2(0.5715066078978425), 3.945, 0.1610, (0.517, 0.982, 0.983), (0.0390, 0.1257, 0.2083), 1e-4),
    (gpt_2(0.6072), 3.196, 0.1404, (0.245, 0.961, 0.963), (0.0322, 0.1114, 0.1900), 1e-4),
    (gpt_2(0.6366), 2.697, 0.1266, (0.148, 0.742, 0.939), (0.0283, 0.1026, 0.1783), 1e-4),
    (gpt_2(0.6945), 1.948, 0.1055, (0.070, 0.351, 0.702), (0.0231, 0.0902, 0.1616), 1e-4),
    (gpt_2(0.7498), 1.449, 0.0907, (0.043, 0.213, 0.426), (0.0201, 0.0825, 0.1507), 1e-4),
    (cifar_10(4.0, 99), 4.999, 0.418, (0.993, 0.994, 0.994), (0.112, 0.295, 0.430), 1e-3),
    (cifar_10(5.0, 99), 3.861, 0.342, (0.475, 0.980, 0.981), (0.0755, 0.225, 0.347), 1e-3),
    (cifar_10(10.0, 75), 1.632, 0.165, (0.051, 0.256, 0.511), (0.0281, 0.110, 0.193), 1e-3),
]


@pytest.mark.parametrize(("mechanism", "epsilon", "advantage", "claimed", "powers", "digit"), RUNS)
def test_an_epsilon_overstates_the_risk_of_published_runs(mechanism, epsilon, advantage, claimed, powers, digit):
    profile, alphas = mechanism.profile(), (0.01, 0.05, 0.1)
    found = profile.epsilon(1e-5).upper
    assert found == pytest.approx(epsilon, abs=1e-3)
    assert profile.advantage().upper == pytest.approx(advantage, abs=digit)
    assert [claimed_power(found, alpha) for alpha in alphas] == pytest.approx(claimed, abs=1e-3)
    assert [power.upper for power in profile.power(alphas)] == pytest.approx(powers, abs=digit)
    assert profile.power(0.01).upper < 0.95 * claimed_power(found, 0.01) / 1.5


@pytest.mark.parametrize(
    ("mechanism", "truth"),
    [(SubsampledGaussian(1.0, 0.01, 10000), 1.67260877e-3), (gpt_2(0.5715066078978425), 2.95363863e-4)],
)
def test_power_at_a_false_positive_rate_of_1e_5_is_above_the_truth_by_less_than_a_hundredth(mechanism, truth):
    power = mechanism.profile().power(1e-5)
    assert power.lower <= truth * (1 + 1e-8)
    assert truth * (1 - 1e-8) <= power.upper <= truth * 1.01


@pytest.mark.parametrize("mechanism", [SubsampledGaussian(1.5, 0.032, 3000), Laplace(1.0)], ids=["DP-SGD", "Laplace"])
def test_the_curve_is_a_symmetric_tradeoff_function_above_every_epsilon_and_delta_of_it(mechanism):
    profile, alphas = mechanism.profile(), np.linspace(0, 1, 401)

    def f(values):
        return np.array([value.safe for value in profile.tradeoff(values)])

    betas = f(alphas)
    assert (np.diff(betas) <= 1e-12).all()
    assert (np.diff(betas, 2) >= -1e-9).all()
    assert (betas <= 1 - alphas + 1e-12).all()
    inside = betas > 1e-6
    assert np.abs(f(betas[inside]) - alphas[inside]).max() < 1e-6
    for epsilon in (0.0, 0.2, 0.7, 1.5, 4.0):
        delta = profile.delta(epsilon).upper
        lines = (1 - delta - math.exp(epsilon) * alphas, math.exp(-epsilon) * (1 - delta - alphas))
        assert (betas >= np.maximum(0, np.maximum(*lines)) - 1e-5).all()
    fixed_point = (1 - profile.advantage().upper) / 2
    assert 1 - fixed_point - f([fixed_point])[0] == pytest.approx(profile.advantage().upper, abs=2e-5)


def test_the_curve_of_laplace_is_its_three_pieces():
    alphas, scale = np.linspace(0, 1, 2001), math.exp(-1)
    truth = np.where(alphas < scale / 2, 1 - alphas / scale, scale * (1 - alphas))
    middle = (alphas >= scale / 2) & (alphas <= 0.5)
    truth[middle] = scale / (4 * alphas[middle])
    profile = Laplace(1.0).profile(accuracy=1e-6)
    found = profile.tradeoff([*alphas, 0.01, math.exp(-0.5) / 2])
    assert np.abs(np.array([value.safe for value in found[:-2]]) - truth).max() < 1e-6
    assert all(value.lower <= one + 1e-12 <= value.upper + 1e-6 for value, one in zip(found, truth, strict=False))
    assert found[-2].safe == pytest.approx(1 - 0.027182818, abs=1e-6)
    assert found[-1].safe == pytest.approx(0.30326533, abs=1e-6)


@pytest.mark.parametrize(
    ("target", "noise"),
    [
        (ErrorRatesTarget(0.01, 0.153945318), 1.0),
        (ErrorRatesTarget(0.001, 0.0380134755), 1.0),
        (ReconstructionTarget(0.01, 0.153945318), 1.0),
        (PrecisionTarget(0.153945318 / (0.153945318 + 0.01), 0.5, 0.01), 1.0),
        (AdvantageTarget(0.480072359), 1.0),
        (MuTarget(1.35875612), 1.0),
    ],
    ids=str,
)
def test_the_risk_of_a_noise_leads_back_to_that_noise(target, noise):
    found = calibrate(lambda sigma: SubsampledGaussian(sigma, 0.01, 10000), target).value
    assert noise * (1 - 1e-7) <= found <= noise * 1.0001


@pytest.mark.parametrize(
    ("target", "mu"),
    [
        (AdvantageTarget(0.1), 0.2513226937101),
        (ErrorRatesTarget(0.01, 0.05), 0.6814942471),
        (PrecisionTarget(0.05, 1 / 96, 0.01), 0.6814942471),  # one member in 96 at 0.01 false alarms: TPR is 0.05
        (ReconstructionTarget(0.01, 0.05), 0.6814942471),
        (EpsilonTarget(3, 1e-5), 1 / 1.390593456675),
    ],
    ids=str,
)
def test_the_central_limit_guess_of_a_target_is_exact_for_gaussians(target, mu):
    assert target.gaussian_mu() == pytest.approx(mu, rel=1e-3 if isinstance(target, EpsilonTarget) else 1e-9)
    assert target.achieved(Gaussian(1 / mu).profile()).upper == pytest.approx(target.value, rel=1e-9)
    assert 1 / mu * (1 - 1e-9) <= calibrate(Gaussian, target).value <= 1 / mu * 1.0001


@pytest.mark.parametrize(
    ("target", "most"),
    [
        (MuTarget(1.0), 100),
        (MuTarget(1.0049), 100),
        (MuTarget(1.00499), 101),
        (AdvantageTarget(0.3829249226), 100),
        (ErrorRatesTarget(0.01, 0.0923622481), 100),
        (EpsilonTarget(4.3771780957, 1e-5), 100),
    ],
    ids=str,
)
def test_the_most_steps_of_plain_noise_are_those_of_the_closed_form(target, most):
    found = calibrate(lambda steps: Gaussian(10.0, steps), target, knob="steps")
    assert found.value == most
    assert isinstance(found.value, int)
    assert found.violating == most + 1


def test_the_most_steps_of_sampled_noise_stay_on_the_safe_side():
    target = EpsilonTarget(6.18772, 1e-5)  # (0.01, 1, 10000) has 6.18771239
    found = calibrate(lambda steps: SubsampledGaussian(1.0, 0.01, steps), target, knob="steps")
    assert found.value <= 10000
    assert found.value >= 9999
    assert found.violating > 10000


def test_the_largest_sampling_rate_of_one_step_is_that_of_the_closed_form():
    # Advantage = q (2 Phi(1 / (2 sigma)) - 1); at sigma = 1, q = 0.01 it is 0.00382924922548.
    found = calibrate(lambda rate: SubsampledGaussian(1.0, rate, 1), AdvantageTarget(0.003829249226), "sampling_rate")
    assert 0.01 * (1 - 1e-4) <= found.value <= 0.01 * (1 + 1e-9)
    assert found.violating > 0.01
    rate = calibrate(lambda rate: SubsampledGaussian(1.0, rate, 10000), AdvantageTarget(0.480072359), "sampling_rate")
    assert 0.01 * (1 - 1e-4) <= rate.value <= 0.01 * (1 + 1e-8)


def test_everything_may_be_used_where_the_whole_range_meets_the_target():
    found = calibrate(lambda rate: SubsampledGaussian(20.0, rate, 1), EpsilonTarget(5, 1e-5), knob="sampling_rate")
    assert found.value == 1.0
    assert found.violating is None


def test_an_advantage_bounds_no_attack_at_a_low_false_positive_rate():
    advantage = calibrate(lambda sigma: SubsampledGaussian(sigma, 0.001, 1000), AdvantageTarget(0.05)).profile
    gaussian = Gaussian(1 / AdvantageTarget(0.05).gaussian_mu()).profile()
    assert advantage.power(1e-3).lower > 1.5 * gaussian.power(1e-3).upper
    assert advantage.delta(10.0).lower > 1e3 * gaussian.delta(10.0).upper


def trained(features, labels, noise_multiplier, rate, steps, learning_rate, generator, runs):
    """DP-SGD on logistic regression with clip norm 1, `runs` times; yields the weights and the noisy sums."""
    weights = np.zeros((runs, features.shape[1]))
    lengths = np.linalg.norm(features, axis=1)
    for _ in range(steps):
        drawn = generator.random((runs, len(features))) < rate
        residuals = expit(weights @ features.T) - labels
        clipped = residuals / np.maximum(1.0, np.abs(residuals) * lengths)
        sums = (drawn * clipped) @ features + noise_multiplier * generator.standard_normal(weights.shape)
        yield weights, sums
        weights = weights - learning_rate / (rate * len(features)) * sums


RATE, STEPS = 0.05, 400
TARGET = ErrorRatesTarget(0.01, 0.05)


def dp_sgd(noise_multiplier):
    return SubsampledGaussian(noise_multiplier, RATE, STEPS)


def test_the_noise_that_is_saved_makes_a_better_model():
    generator = np.random.default_rng(37)
    truth = generator.standard_normal(20)
    truth *= 6 / np.linalg.norm(truth)
    features = generator.standard_normal((2000, 20))
    labels = (generator.random(2000) < expit(features @ truth)).astype(float)
    unseen = generator.standard_normal((5000, 20))
    best = unseen @ truth > 0
    direct, standard = calibrate(dp_sgd, TARGET).value, two_step(dp_sgd, TARGET, 1e-5).value
    assert direct < standard
    accuracies = []
    for noise in (direct, standard):
        *_, (weights, _) = trained(features, labels, noise, RATE, STEPS, 4.0, generator, 40)
        accuracies.append(((weights @ unseen.T > 0) == best).mean(axis=1))
    gain = accuracies[0].mean() - accuracies[1].mean()
    error = math.sqrt(sum(accuracy.var(ddof=1) / len(accuracy) for accuracy in accuracies))
    assert gain > 0.005
    assert gain > 5 * error  # a chance of 1e-6 at most were there no gain


def test_an_attacker_who_knows_the_canary_s_gradient_stays_below_the_target():
    """The likelihood-ratio attack on every noisy sum, with Clopper-Pearson bounds: false-alarm rate 1e-6 in all."""
    noise, runs, thresholds = calibrate(dp_sgd, TARGET).value, 20_000, (0.5, 1.0, 1.5)
    generator = np.random.default_rng(3)
    others = np.column_stack([np.zeros(8), generator.standard_normal((8, 2))])
    features, labels = np.vstack([[20.0, 0.0, 0.0], others]), np.append(1.0, generator.integers(0, 2, 8))

    def statistics(present):
        found = np.zeros(runs)
        chosen = slice(0 if present else 1, None)
        for weights, sums in trained(features[chosen], labels[chosen], noise, RATE, STEPS, 5e-4, generator, runs):
            size = np.minimum(1.0, 20 * (1 - expit(20 * weights[:, 0])))  # of the canary's clipped gradient
            exponent = (-2 * size * sums[:, 0] - size**2) / (2 * noise**2)
            found += np.log1p(RATE * np.expm1(exponent))
        return found

    absent, present = statistics(False), statistics(True)
    profile, chance = dp_sgd(noise).profile(), 1e-6 / (2 * len(thresholds))
    for threshold in thresholds:
        false, true = (absent > threshold).sum(), (present > threshold).sum()
        fpr_at_most = beta.ppf(1 - chance, false + 1, runs - false)
        tpr_at_least = beta.ppf(chance, true, runs - true + 1) if true else 0.0
        assert tpr_at_least <= profile.power(fpr_at_most).upper
        assert true / runs > 0.9 * profile.power(false / runs).upper  # the attack is worth defending against


def test_the_command_line_warns_that_an_advantage_says_little_about_rare_false_alarms(capsys, monkeypatch):
    arguments = ["reticent", "calibrate", "--advantage", "0.1", "--sampling-rate", "0.1", "--steps", "50"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit):
        main()
    printed = capsys.readouterr().out
    assert "bounds no attack at low false-positive rates" in " ".join(printed.split())
    assert "1e-05" in printed
