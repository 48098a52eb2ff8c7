"""Scores of reconstructions, their matching and their intervals."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.stats import beta

from reticent.attacks.reconstruction.comparison import bootstrap, compared, share
from reticent.attacks.reconstruction.matching import match_reconstructions, reidentified
from reticent.attacks.reconstruction.scores import PERFECT_DB, ms_ssim, mse, ncc, pairwise, psnr, score, ssim
from reticent.errors import InputError

METRICS = ("MSE", "PSNR", "SSIM", "NCC")


def ssim_by_filtering(one, other):
    """As scikit-image's structural_similarity with Gaussian weights of sd 1.5 and population covariances."""

    def smooth(x):
        return gaussian_filter(x, 1.5, truncate=3.5)

    m1, m2 = smooth(one), smooth(other)
    v1, v2, c = smooth(one * one) - m1**2, smooth(other * other) - m2**2, smooth(one * other) - m1 * m2
    similar = (2 * m1 * m2 + 1e-4) * (2 * c + 9e-4) / ((m1**2 + m2**2 + 1e-4) * (v1 + v2 + 9e-4))
    return similar[5:-5, 5:-5].mean()


def test_ssim_is_that_of_gaussian_filtering_where_the_window_fits(patients):
    images = patients[0]
    noisy = (images[:6] + 0.1 * torch.randn(6, 1, 28, 28, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    wanted = [
        ssim_by_filtering(a[0].double().numpy(), b[0].double().numpy()) for a, b in zip(images[:6], noisy, strict=True)
    ]
    assert ssim(images[:6], noisy).numpy() == pytest.approx(wanted, abs=1e-4)


def test_equal_images_have_perfect_scores_and_are_matched_to_themselves(patients):
    images = patients[0][:12]
    perfect = {"MSE": 0, "PSNR": PERFECT_DB, "SSIM": 1, "NCC": 1}
    for metric in METRICS:
        assert score(metric, images, images).tolist() == pytest.approx([perfect[metric]] * 12, abs=1e-5)
        for one_to_one in (False, True):
            found = match_reconstructions(images, images.flip(0), metric, one_to_one=one_to_one)
            assert found.index.tolist() == list(range(12))[::-1]
            assert found.scores.tolist() == pytest.approx([perfect[metric]] * 12, abs=1e-5)


def test_psnr_of_a_constant_error_and_its_data_range():
    images = torch.zeros(1, 1, 8, 8)
    assert float(psnr(images, images + 0.1)) == pytest.approx(20)
    assert float(psnr(images, images + 0.4, data_range=4.0)) == pytest.approx(20)
    assert float(mse(images, images + 0.4)) == pytest.approx(0.16)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 10), st.floats(-3, 3))
def test_cross_correlation_does_not_depend_on_brightness_and_contrast(seed, contrast, brightness):
    images = torch.rand(3, 1, 5, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert ncc(images, contrast * images + brightness).tolist() == pytest.approx([1] * 3)
    assert ncc(images, -contrast * images + brightness).tolist() == pytest.approx([-1] * 3)
    assert ncc(images, torch.full_like(images, brightness)).tolist() == [0] * 3


@pytest.mark.parametrize("metric", METRICS)
def test_pairs_have_the_scores_that_they_have_alone(metric, patients):
    images, others = patients[0][:3], patients[0][3:7]
    found = pairwise(metric, images, others)
    for i in range(3):
        assert found[i].tolist() == pytest.approx(score(metric, images[i].expand(4, -1, -1, -1), others).tolist())


def test_multi_scale_ssim_takes_the_scales_that_fit_and_refuses_fewer_than_eleven_pixels(patients):
    images = patients[0][:4]
    noisy = images + 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    assert ms_ssim(images, images).tolist() == pytest.approx([1] * 4, abs=1e-5)
    assert (ms_ssim(images, noisy) > ssim(images, noisy)).all()  # coarse scales see less of the noise
    only = ms_ssim(images[..., :12, :12], noisy[..., :12, :12])
    assert torch.isfinite(only).all()
    with pytest.raises(InputError, match="11 pixels"):
        ms_ssim(images[..., :10], noisy[..., :10])


def test_small_and_three_dimensional_images_have_an_ssim():
    volume = torch.rand(2, 1, 7, 9, 12, generator=torch.Generator().manual_seed(1))
    assert ssim(volume, volume).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert (ssim(volume, 1 - volume) < 0.5).all()


def test_one_to_one_gives_no_reconstruction_twice_and_minds_the_total():
    targets = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)
    reconstructions = torch.tensor([0.6, 3.0]).reshape(2, 1, 1, 1)
    best = match_reconstructions(targets, reconstructions)
    assert best.index.tolist() == [0, 0]
    single = match_reconstructions(targets, reconstructions, one_to_one=True)
    assert single.index.tolist() == [0, 1]  # 0.36 + 4 is less than 9 + 0.16
    few = match_reconstructions(targets, reconstructions[:1], one_to_one=True)
    assert few.index.tolist() == [-1, 0]
    assert few.scores.tolist() == [float("inf"), pytest.approx(0.16)]


def test_nothing_to_match_is_refused(patients):
    with pytest.raises(InputError, match="0 reconstructions"):
        match_reconstructions(patients[0][:2], patients[0][:0])


def test_an_image_is_reidentified_only_if_it_beats_every_other_of_the_gallery(patients):
    gallery, own = patients[0][:50], torch.arange(50)
    assert reidentified(gallery, gallery, own).all()
    assert not reidentified(gallery[:2], gallery, torch.tensor([1, 0])).any()
    tied = torch.cat([gallery[:1], gallery[:1]])
    assert not reidentified(gallery[:1], tied, torch.tensor([0])).any()
    mean = gallery.mean(0, keepdim=True).expand(50, -1, -1, -1)
    assert reidentified(mean, gallery, own).sum() == 1  # as often as by chance


def test_intervals_of_shares_are_those_of_clopper_and_pearson():
    value, interval = share(torch.arange(20) < 3)
    assert value == 0.15
    assert interval.lower == pytest.approx(beta.ppf(0.025, 3, 18))
    assert interval.upper == pytest.approx(beta.ppf(0.975, 4, 17))
    assert share(torch.zeros(8, dtype=torch.bool))[1].upper == pytest.approx(1 - 0.025 ** (1 / 8))


def test_bootstrap_intervals_cover_the_mean_as_often_as_they_say():
    """Of 400 samples of 40 normal values; below 0.90 with a probability of less than 1e-5 if coverage is 0.94."""
    rng = np.random.default_rng(3)
    found = [bootstrap(torch.from_numpy(rng.normal(2.0, 1.0, 40))) for _ in range(400)]
    assert np.mean([i.lower <= 2.0 <= i.upper for i in found]) > 0.89


def test_a_comparison_is_paired_and_positive_where_the_attack_is_better(patients, public):
    targets, mean = patients[0][:30], public.mean(0, keepdim=True)
    near = targets + 0.02 * torch.randn(targets.shape, generator=torch.Generator().manual_seed(0))
    for metric in METRICS:
        better = compared(metric, targets, near, mean)
        assert better.beats_baseline
        assert better.gain > 0
        assert better.gain == pytest.approx(abs(better.value - better.baseline))
        same = compared(metric, targets, mean.expand_as(targets), mean)
        assert same.gain == same.gain_interval.lower == 0
        assert not same.beats_baseline
