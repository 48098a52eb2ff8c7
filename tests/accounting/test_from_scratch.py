"""Reconstruction from scratch: the law of its error against the real pipeline, published values and simulation.

Simulations have fixed seeds. Kolmogorov-Smirnov tests raise a false alarm with probability 1e-6, comparisons of means
(5 standard errors) with 6e-7.
"""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import nn

from reticent.accounting import Estimate
from reticent.accounting.from_scratch import FromScratchAttack, noise_for_reconstruction
from reticent.accounting.risk_corridor import risk_corridor
from reticent.errors import InputError
from reticent.training import clipped_grad
from reticent.training.noise import SeededSource, gaussian_noise

DRAWS = 2000


def reconstruct(image, rows, max_norm, noise_multiplier, observations, seed):
    """The optimal attack on our own DP-SGD step: MSE of each draw, the noise std in units of `max_norm`."""
    model = nn.Linear(image.numel(), rows, bias=False).double()
    step = clipped_grad(model, lambda layer, batch: layer(batch).sum(1), image[None], max_norm=max_norm)
    gradient, source = step.sum["weight"], SeededSource(seed)
    assert step.sensitivity("add-or-remove-one") == max_norm
    rescale = max(1.0, float(image.norm()) * math.sqrt(rows) / max_norm)
    errors = []
    for _ in range(DRAWS):
        released = torch.zeros_like(gradient)
        for _ in range(observations):
            released += gradient + gaussian_noise(gradient, noise_multiplier * max_norm, source)
        guess = rescale * released.mean(0) / observations
        errors.append(float(((guess - image) ** 2).mean()))
    return np.array(errors)


@pytest.mark.parametrize(
    ("n_dims", "rows", "norm", "max_norm", "sigma", "observations"),
    [(64, 4, 1.0, 1.0, 0.1, 1), (64, 1, 5.0, 1.0, 0.05, 1), (784, 1, 10.0, 1.0, 0.02, 4), (16, 1, 2.0, 1.0, 0.5, 1)],
)
def test_the_attack_on_the_real_pipeline_has_the_stated_law(n_dims, rows, norm, max_norm, sigma, observations):
    """2000 draws; Kolmogorov-Smirnov at 1e-6, mean within 5 standard errors; seed 4."""
    image = torch.from_numpy(np.random.default_rng(4).normal(size=n_dims))
    image *= norm / image.norm()
    errors = reconstruct(image, rows, max_norm, sigma, observations, seed=4)
    attack = FromScratchAttack(n_dims, sigma, norm, observations=observations, rows=rows, max_norm=max_norm)
    assert attack.noise_variance == pytest.approx(sigma**2 * norm**2 / observations)  # C and the rows cancel
    assert kstest(errors, attack.mse_cdf).pvalue > 1e-6
    assert errors.mean() == pytest.approx(attack.expected_mse(), rel=5 * math.sqrt(2 / n_dims / DRAWS))


def test_too_few_rows_for_clipping_leave_the_attacker_more_noise():
    """M < (C/r)^2: variance sigma^2 C^2 / M, not sigma^2 r^2; 2000 draws, Kolmogorov-Smirnov at 1e-6; seed 5."""
    image = torch.from_numpy(np.random.default_rng(5).normal(size=64))
    image *= 0.5 / image.norm()
    errors = reconstruct(image, rows=1, max_norm=1.0, noise_multiplier=0.1, observations=1, seed=5)
    attack = FromScratchAttack(64, 0.1, 0.5, rows=1, max_norm=1.0)
    assert attack.expected_mse() == pytest.approx(0.01)
    assert FromScratchAttack(64, 0.1, 0.5).expected_mse() == pytest.approx(0.0025)
    assert FromScratchAttack(64, 0.1, 0.5, rows=4, max_norm=1.0).expected_mse() == pytest.approx(0.0025)
    assert kstest(errors, attack.mse_cdf).pvalue > 1e-6
    assert kstest(errors, FromScratchAttack(64, 0.1, 0.5).mse_cdf).pvalue < 1e-100


ETAS = (1e-6, 1e-4, 1e-3, 1e-2, 0.1)


@pytest.mark.parametrize(
    ("n_dims", "sigma", "probabilities"),
    [
        (4, 0.01, (1.97353e-4, 0.593994, 1, 1, 1)),
        (4, 0.03, (2.46548e-6, 0.0213210, 0.650814, 1, 1)),
        (4, 0.1, (1.99973e-8, 1.97353e-4, 0.0175231, 0.593994, 1)),
        (4, 0.5, (3.2e-11, 3.19829e-7, 3.18298e-5, 0.00303435, 0.191208)),
        (64, 0.03, (1.56e-82, 5.1765e-20, 0.747008, 1, 1)),
        (64, 0.5, (1.02e-160, 1.01e-96, 9.05e-65, 2.96e-33, 4.57148e-6)),
        (784, 0.03, (None, 4.2e-225, 0.983823, 1, 1)),
        (784, 0.1, (None, None, 3.7e-241, 0.506717, 1)),
        (3072, 0.01, (None, 0.503393, 1, 1, 1)),
        (50176, 0.01, (None, 0.500840, 1, 1, 1)),
    ],
)
def test_probability_of_a_small_error_matches_its_values(n_dims, sigma, probabilities):
    attack = FromScratchAttack(n_dims, sigma, 1.0)
    for eta, probability in zip(ETAS, probabilities, strict=True):
        if probability is None:
            assert -math.inf < attack.log_mse_cdf(eta) < -600
        else:
            digits = 1e-5 if probability > 1e-20 else 1e-2
            assert attack.mse_cdf(eta) == pytest.approx(probability, rel=digits)


@pytest.mark.parametrize("estimator", ["unbiased", "shrinkage"])
def test_observations_act_as_less_noise(estimator):
    several = FromScratchAttack(64, 0.3, 2.0, observations=9, estimator=estimator)
    one = FromScratchAttack(64, 0.1, 2.0, estimator=estimator)
    for eta in (1e-6, 0.01, 0.04):
        assert several.log_mse_cdf(eta) == pytest.approx(one.log_mse_cdf(eta), rel=1e-12)


@pytest.mark.parametrize(
    ("n_dims", "norm", "sigma", "eta"), [(64, 1, 0.5, 1e-6), (784, 1, 0.1, 1e-4), (4, 2, 0.5, 1e-9)]
)
def test_log_probabilities_far_down_match_40_digit_arithmetic(n_dims, norm, sigma, eta):
    with mpmath.workdps(40):
        x = mpmath.mpf(n_dims) * eta / (2 * mpmath.mpf(sigma) ** 2 * norm**2)
        exact = float(mpmath.log(mpmath.gammainc(mpmath.mpf(n_dims) / 2, 0, x, regularized=True)))
    assert FromScratchAttack(n_dims, sigma, norm).log_mse_cdf(eta) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize(
    ("n_dims", "sigma", "eta"), [(64, 0.1, 1e-5), (784, 0.1, 3e-4), (784, 0.03, 1e-8), (3072, 0.1, 1e-4)]
)
def test_log_probabilities_of_shrinkage_match_40_digit_arithmetic(n_dims, sigma, eta):
    with mpmath.workdps(40):
        s2 = mpmath.mpf(sigma) ** 2
        a, m = mpmath.mpf(n_dims) / 2, n_dims**2 * s2 / 2
        y = n_dims * mpmath.mpf(eta) * (1 + n_dims * s2) ** 2 / s2 / 2
        total, poisson, cumulated = mpmath.mpf(0), mpmath.exp(-m), mpmath.mpf(0)
        term = mpmath.exp(a * mpmath.log(y) - y - mpmath.loggamma(a + 1))
        for k in range(1, int(m) + 2000):
            cumulated += poisson
            total += term * cumulated
            poisson, term = poisson * m / k, term * y / (a + k)
        exact = float(mpmath.log(total))
    attack = FromScratchAttack(n_dims, sigma, 1.0, estimator="shrinkage")
    assert attack.log_mse_cdf(eta) == pytest.approx(exact, rel=1e-11)


@pytest.mark.parametrize("estimator", ["unbiased", "shrinkage"])
@pytest.mark.parametrize("n_dims", [1, 784, 10**6, 10**8])
def test_logarithms_stay_finite_and_increase_also_for_whole_volumes(n_dims, estimator):
    attack = FromScratchAttack(n_dims, 0.02, 1.0, estimator=estimator)
    etas = attack.expected_mse() * np.concatenate([np.geomspace(1e-12, 0.9, 30), np.linspace(0.99, 1.01, 41)])
    logs = attack.log_mse_cdf(etas)
    assert np.isfinite(logs).all()
    assert (np.diff(logs) >= -1e-9).all()
    for p in (1e-30, 1e-4, 0.3, 0.99):
        assert attack.mse_cdf(attack.mse_ppf(p)) == pytest.approx(p, rel=1e-7)


@pytest.mark.parametrize(
    ("n_dims", "tenth", "hundredth"),
    [
        (1, 0.079579, 0.797864),
        (4, 0.0193926, 0.036692),
        (64, 0.0113141, 0.0125478),
        (784, 0.0103371, 0.0106223),
        (3072, 0.0101669, 0.0103054),
    ],
)
def test_noise_for_a_tolerated_reconstruction(n_dims, tenth, hundredth):
    for gamma, sigma in ((0.1, tenth), (0.01, hundredth)):
        for eta, factor in ((1e-4, 1), (1e-2, 10)):
            noise = noise_for_reconstruction(gamma, n_dims, 1.0, eta=eta)
            assert noise.unbiased == pytest.approx(factor * sigma, rel=1e-5)
            assert FromScratchAttack(n_dims, noise.unbiased, 1.0).mse_cdf(eta) == pytest.approx(gamma, rel=1e-10)
            if eta < noise.zeros_mse:
                shrunk = FromScratchAttack(n_dims, noise.shrinkage, 1.0, estimator="shrinkage")
                assert shrunk.mse_cdf(eta) == pytest.approx(gamma, rel=1e-9)


def test_noise_can_be_asked_for_by_psnr_steps_and_rows():
    by_error = noise_for_reconstruction(0.1, 784, 14.0, eta=0.01)
    assert noise_for_reconstruction(0.1, 784, 14.0, psnr=20.0) == by_error
    assert noise_for_reconstruction(0.1, 784, 14.0, psnr=40.0, data_range=10.0).unbiased == pytest.approx(
        by_error.unbiased
    )
    assert noise_for_reconstruction(0.1, 784, 14.0, eta=0.01, observations=4).unbiased == pytest.approx(
        2 * by_error.unbiased
    )
    few = noise_for_reconstruction(0.1, 784, 14.0, eta=0.01, rows=1, max_norm=28.0)
    assert few.unbiased == pytest.approx(by_error.unbiased / 2)


def test_signal_to_noise_ratios_of_images():
    def attack(n_dims, sigma):
        return FromScratchAttack(n_dims, sigma, 0.5 * math.sqrt(n_dims))

    for n_dims, sigma, psnr in [
        (784, 0.001, 37.08), (784, 0.01, 17.08), (784, 0.1, -2.92), (3072, 0.003, 21.60), (50176, 0.001, 19.02),
    ]:  # fmt: skip
        assert -10 * math.log10(attack(n_dims, sigma).expected_mse()) == pytest.approx(psnr, abs=5.1e-3)
    assert attack(784, 0.01).psnr_sf(15.0) == pytest.approx(1.0)
    assert attack(784, 0.01).psnr_sf(20.0) == pytest.approx(2.7e-33, rel=2e-2)
    assert list(attack(784, 0.01).psnr_sf([10.0, 30.0])) == [attack(784, 0.01).psnr_sf(p) for p in (10.0, 30.0)]


@pytest.mark.parametrize(
    ("n_dims", "sigma", "correlation"), [(784, 0.01, 0.96296), (784, 0.1, 0.3363), (3072, 0.02, 0.66983)]
)
def test_correlation_of_reconstructions(n_dims, sigma, correlation):
    """Mean of 400 simulated correlations, whose spread is below 1 / sqrt(N); 5 standard errors; seed 6."""
    attack = FromScratchAttack(n_dims, sigma, 1.0)
    assert attack.correlation() == pytest.approx(correlation, abs=5.1e-5)
    rng = np.random.default_rng(6)
    image = rng.normal(size=n_dims)
    image -= image.mean()
    image /= np.linalg.norm(image)
    found = [np.corrcoef(image, image + sigma * rng.normal(size=n_dims))[0, 1] for _ in range(400)]
    # the closed form is the ratio of expectations: its own error is of order 1/N
    assert np.mean(found) == pytest.approx(attack.correlation(), abs=5 / math.sqrt(400 * n_dims) + 1 / n_dims)


@pytest.mark.parametrize(
    ("n_dims", "sigma", "eta", "shrinkage", "unbiased"),
    [
        (64, 0.1, 0.005, 0.130835, 2.76e-4),
        (64, 0.1, 0.006, 0.480621, 0.004634),
        (784, 0.03, 5e-4, 0.126071, 1.8e-26),
        (784, 0.1, 0.0011, 0.117952, 1.3e-226),
        (4, 0.5, 0.1, 0.438526, 0.191208),
    ],
)
def test_the_unbiased_curve_does_not_hold_attackers_who_shrink(n_dims, sigma, eta, shrinkage, unbiased):
    beside = {row.attack: row for row in FromScratchAttack(n_dims, sigma, 1.0).beside(eta)}
    assert beside["norm-informed shrinkage"].probability == pytest.approx(shrinkage, rel=1e-5)
    assert beside["best unbiased attack"].probability == pytest.approx(unbiased, rel=4e-2 if unbiased < 1e-3 else 1e-3)


@pytest.mark.parametrize(("n_dims", "sigma", "norm", "mean"), [(64, 0.1, 1.0, 0.0060976), (16, 0.5, 2.0, 0.2)])
def test_simulated_shrinkage_has_the_stated_law(n_dims, sigma, norm, mean):
    """20,000 draws; Kolmogorov-Smirnov at 1e-6; seed 7."""
    rng = np.random.default_rng(7)
    image = rng.normal(size=n_dims)
    image *= norm / np.linalg.norm(image)
    shrunk = (image + sigma * norm * rng.normal(size=(20_000, n_dims))) / (1 + n_dims * sigma**2)
    errors = np.mean((shrunk - image) ** 2, axis=1)
    attack = FromScratchAttack(n_dims, sigma, norm, estimator="shrinkage")
    assert attack.expected_mse() == pytest.approx(mean, rel=1e-5)
    assert kstest(errors, attack.mse_cdf).pvalue > 1e-6
    assert errors.mean() == pytest.approx(mean, abs=5 * errors.std() / math.sqrt(20_000))


@pytest.mark.parametrize(("side", "channels", "sigma"), [(28, 1, 0.0357), (32, 3, 0.0180), (224, 3, 0.0026)])
def test_zeros_beat_the_unbiased_attack_from_a_small_noise_on(side, channels, sigma):
    n_dims = side * side * channels
    assert 1 / math.sqrt(n_dims) == pytest.approx(sigma, abs=5.1e-5)
    for factor, zeros_win in ((0.99, False), (1.01, True)):
        unbiased, shrinkage, zeros = FromScratchAttack(n_dims, factor / math.sqrt(n_dims), 10.0).beside(0.1)
        assert (zeros.expected_mse < unbiased.expected_mse) is zeros_win
        assert shrinkage.expected_mse < min(zeros.expected_mse, unbiased.expected_mse)


def test_errors_of_both_attacks_on_chest_phantoms():
    norm = math.sqrt(0.108) / 0.03  # the phantoms' root mean square norm, 10.95
    for sigma, unbiased, shrinkage in ((0.03, 0.108, 0.064), (0.1, 1.20, 0.136)):
        rows = FromScratchAttack(784, sigma, norm).beside(0.05)
        assert rows[0].expected_mse == pytest.approx(unbiased, rel=5e-3)
        assert rows[1].expected_mse == pytest.approx(shrinkage, abs=1e-3)


def test_the_corridor_between_identification_and_reconstruction():
    corridor = risk_corridor(gamma=0.1, prior=1 / 13, etas=[0.05, 0.5, 1.0], n_dims=1, record_norm=1.0)
    assert corridor.sigma_identification == pytest.approx(6.919203, rel=1e-6)
    assert isinstance(corridor.sigma_relaxed, Estimate)
    assert corridor.sigma_relaxed.value == pytest.approx(2.530927, rel=1e-6)
    assert corridor.eta_identification == pytest.approx(0.755989, rel=1e-6)
    assert corridor.eta_relaxed.value == pytest.approx(0.101149, rel=1e-5)
    assert [row.sigma_from_scratch < row.sigma_identification for row in corridor.rows] == [True, True, False]
    assert [row.zeros_succeed for row in corridor.rows] == [False, False, True]
    assert "6.919" in corridor.reading()
    assert "best unbiased attack" in corridor.reading()
    replaced = risk_corridor(0.1, 1 / 13, [0.05], 1, 1.0, sensitivity=2.0, observations=4)
    assert replaced.sigma_identification == pytest.approx(4 * corridor.sigma_identification)


@pytest.mark.parametrize("n_dims", [1, 4, 64, 784])
def test_success_grows_with_error_and_steps_and_falls_with_noise_and_norm(n_dims):
    base = {"n_dims": n_dims, "noise_multiplier": 0.2, "record_norm": 2.0, "observations": 2}
    for factor in (0.1, 0.7, 1.3):
        eta = factor * FromScratchAttack(**base).expected_mse()
        success = FromScratchAttack(**base).log_mse_cdf(eta)
        assert FromScratchAttack(**base).log_mse_cdf(1.1 * eta) > success
        assert FromScratchAttack(**{**base, "observations": 3}).log_mse_cdf(eta) > success
        assert FromScratchAttack(**{**base, "noise_multiplier": 0.22}).log_mse_cdf(eta) < success
        assert FromScratchAttack(**{**base, "record_norm": 2.2}).log_mse_cdf(eta) < success


@pytest.mark.parametrize(("share", "sign"), [(0.5, -1), (0.9, -1), (0.99, -1), (1.6, 1), (3.0, 1)])
def test_errors_concentrate_around_their_mean_with_the_dimension(share, sign):
    logs = [FromScratchAttack(n, 0.1, 1.0).log_mse_cdf(share * 0.01) for n in (4, 16, 64, 256)]
    assert (sign * np.diff(logs) >= 0).all()


def test_no_wording_calls_the_unbiased_law_a_bound_on_attackers():
    noise, corridor = noise_for_reconstruction(0.1, 784, 14.0, eta=0.01), risk_corridor(0.1, 0.01, [0.01], 784, 14.0)
    readings = (noise.reading(), corridor.reading())
    for text in (FromScratchAttack.__doc__, *readings):
        assert "best unbiased attack" in text
        assert "bound" not in text
    for text in readings:
        assert "image of zeros" in text


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("n_dims", lambda: FromScratchAttack(0, 1.0, 1.0)),
        ("noise_multiplier", lambda: FromScratchAttack(4, 0.0, 1.0)),
        ("record_norm", lambda: FromScratchAttack(4, 1.0, math.nan)),
        ("data_range", lambda: FromScratchAttack(4, 1.0, 1.0, data_range=-1.0)),
        ("observations", lambda: FromScratchAttack(4, 1.0, 1.0, observations=0)),
        ("estimator", lambda: FromScratchAttack(4, 1.0, 1.0, estimator="best")),
        ("rows", lambda: FromScratchAttack(4, 1.0, 1.0, rows=3)),
        ("max_norm", lambda: FromScratchAttack(4, 1.0, 1.0, rows=3, max_norm=0.0)),
        ("eta", lambda: FromScratchAttack(4, 1.0, 1.0).mse_cdf(0.0)),
        ("p ", lambda: FromScratchAttack(4, 1.0, 1.0).mse_ppf(1.0)),
        ("psnr", lambda: noise_for_reconstruction(0.1, 4, 1.0)),
        ("gamma", lambda: noise_for_reconstruction(0.0, 4, 1.0, eta=1.0)),
        ("gamma", lambda: risk_corridor(0.1, 0.2, [0.1], 4, 1.0)),
    ],
)
def test_a_number_out_of_range_is_named(name, make):
    with pytest.raises(InputError, match=name):
        make()
