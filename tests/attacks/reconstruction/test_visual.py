"""The visual audit on made-up radiographs: what a prior makes of noise, and what it adds that is not the patient's."""

import time

import pytest
import torch
from chests import chests, textures
from scipy.stats import beta

from reticent.attacks.reconstruction.image_grid import Column, save_grid
from reticent.attacks.reconstruction.observed import Defence
from reticent.attacks.reconstruction.priors import DiffusionPrior, EmpiricalPrior, GaussianPrior
from reticent.attacks.reconstruction.scores import mse
from reticent.attacks.reconstruction.visual import privatise_image, smallest_hiding_noise, visual_audit
from reticent.errors import InputError
from reticent.training.noise import SeededSource


@pytest.fixture(scope="module")
def wiener(public):
    return GaussianPrior.fit(public, "made-up chests")


@pytest.fixture(scope="module")
def audit(wiener, patients):
    """64 patients among 1000, at noise from little to very much."""
    return visual_audit(patients[0][:64], wiener, [0.003, 0.01, 0.03, 0.1, 1.0], gallery=patients[0][64:])


def test_a_prior_makes_a_picture_of_noise_and_the_measured_figures_are_met(audit):
    """MSE and SSIM of Wiener's filter at each noise multiplier, as measured before on the same images."""
    measured = {0.003: (0.00016, 0.991), 0.01: (0.00058, 0.974), 0.03: (0.00201, 0.935), 0.1: (0.0066, 0.857)}
    for level in audit.levels:
        if level.noise_multiplier in measured:
            error, similarity = measured[level.noise_multiplier]
            assert level.scores["MSE"].value == pytest.approx(error, rel=0.25)
            assert level.scores["SSIM"].value == pytest.approx(similarity, abs=0.03)
    third = audit.levels[2]
    assert third.seen_scores["SSIM"].value < 0.3
    assert third.seen_scores["MSE"].value > 0.09
    assert third.scores["SSIM"].value > 0.9
    assert third.scores["MSE"].value < 0.003


def test_recognition_ends_long_before_the_picture_stops_to_look_alike(audit):
    reidentified = [level.reidentified for level in audit.levels]
    assert reidentified[:3] == [1, 1, pytest.approx(0.98, abs=0.05)]
    assert reidentified[3] == pytest.approx(0.12, abs=0.12)
    assert reidentified[4] < 0.1
    recognised = [level.recognised for level in audit.levels]
    assert recognised[:2] == [1, 1]
    assert recognised[2] == pytest.approx(0.88, abs=0.1)
    assert recognised[3] < 0.12
    last = audit.levels[4]
    assert last.scores["SSIM"].value > 0.75
    assert last.scores["SSIM"].value == pytest.approx(last.scores["SSIM"].baseline, abs=0.03)


def test_every_score_has_the_prior_only_beside_it(audit):
    """The mean of public radiographs has an SSIM of about 0.78 with any radiograph."""
    for level in audit.levels:
        assert level.scores["SSIM"].baseline == pytest.approx(0.78, abs=0.03)
    rows = audit.table()
    assert [row["SSIM, prior only"] for row in rows] == [level.scores["SSIM"].baseline for level in audit.levels]


def test_no_attack_identifies_more_often_than_is_guaranteed_and_one_beats_the_law_from_scratch(audit):
    for level in audit.levels:
        hits, trials = int(level.hits.sum()), len(level.hits)
        assert beta.ppf(1e-6, hits, trials - hits + 1) <= level.bound.upper if hits else True
    third = audit.levels[2]
    assert third.scores["MSE"].value < third.unbiased_mse / 10
    assert third.unbiased_mse == pytest.approx(third.seen_scores["MSE"].value, rel=0.05)
    assert third.shrinkage_mse < third.unbiased_mse


def test_the_image_seen_is_the_image_and_noise_of_the_stated_deviation(patients):
    images = patients[0][:100]
    for images_fed, max_norm in ((images, 1.0), (images, 50.0), (4 * images - 2, 1.0)):
        seen, std = privatise_image(images_fed, Defence(max_norm, 0.01), SeededSource(1))
        expected = 0.01 * images_fed.flatten(1).norm(dim=1)
        assert torch.allclose(std, expected.to(std), rtol=2e-2 if max_norm > 1 else 1e-3)
        scaled = (seen - images_fed) / std[:, None, None, None]
        assert float(scaled.mean()) == pytest.approx(0, abs=0.02)
        assert float(scaled.std()) == pytest.approx(1, abs=0.02)
    averaged, std4 = privatise_image(images, Defence(1.0, 0.01), SeededSource(1), observations=4)
    assert torch.allclose(2 * std4, privatise_image(images, Defence(1.0, 0.01), SeededSource(1))[1], rtol=1e-4)
    assert float(mse(images, averaged).mean()) == pytest.approx(float(std4.square().mean()), rel=0.05)


def test_units_of_the_network_do_not_change_what_is_found_at_equal_noise_on_pixels(wiener, patients):
    """Images fed as [-2, 2] have another norm, hence other noise; at the same noise on pixels the audit is the same."""
    images = patients[0][:40]
    fed = 4 * images - 2
    ratio = float((fed.flatten(1).norm(dim=1) / 4 / images.flatten(1).norm(dim=1)).mean())
    one = visual_audit(images, wiener, [0.03]).levels[0]
    other = visual_audit(fed, wiener, [0.03 / ratio], box=(-2.0, 2.0)).levels[0]
    assert float(other.noise_std.mean()) == pytest.approx(float(one.noise_std.mean()), rel=0.05)
    assert other.scores["MSE"].value == pytest.approx(one.scores["MSE"].value, rel=0.15)


def test_a_prior_of_other_images_helps_less_and_still_helps(wiener, patients):
    other = GaussianPrior.fit(textures(2000, seed=0), "textures")
    for sigma in (0.01, 0.03, 0.1):
        matched, shifted = (visual_audit(patients[0][:64], prior, [sigma]).levels[0] for prior in (wiener, other))
        assert shifted.scores["MSE"].value > 1.2 * matched.scores["MSE"].value
        assert shifted.scores["MSE"].value < 0.5 * shifted.seen_scores["MSE"].value


def test_the_smallest_hiding_noise_hides_and_a_tenth_less_may_not(wiener, patients):
    images, options = patients[0][:30], {"gallery": patients[0][30:130], "seed": 2}
    sigma = smallest_hiding_noise(images, wiener, 0.5, **options)
    assert 0.01 < sigma < 1
    assert visual_audit(images, wiener, [sigma], **options).levels[0].reidentified <= 0.5
    assert visual_audit(images, wiener, [sigma / 1.1], **options).levels[0].reidentified > 0.5


def test_without_noise_everything_is_seen(wiener, patients):
    level = visual_audit(patients[0][:5], wiener, [0.0]).levels[0]
    assert level.scores["MSE"].value < 1e-9
    assert level.bound.upper == 1


@pytest.mark.parametrize("shape", [(1, 12, 10), (3, 8, 8), (1, 5, 6, 7)])
def test_pictures_of_all_kinds_of_images_are_drawn(shape, tmp_path):
    from PIL import Image

    images = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    save_grid(tmp_path / "grid.png", [Column("one", images), Column("other", 2 * images - 0.5)], 5, "note")
    assert Image.open(tmp_path / "grid.png").format == "PNG"


def test_a_picture_that_cannot_be_saved_leaves_nothing_behind(tmp_path):
    with pytest.raises(InputError, match="could not be saved"):
        save_grid(tmp_path / "absent" / "grid.png", [Column("one", torch.rand(1, 1, 4, 4))], 1, "")


@pytest.mark.slow
def test_the_diffusion_prior_reproduces_what_was_measured():
    """Trained on 10,000 made-up radiographs in half an hour at most; figures from 64 patients among 1000."""
    began = time.process_time()
    prior = DiffusionPrior.fit(chests(10_000, seed=0)[0], "made-up chests")
    assert time.process_time() - began < 1800
    images = chests(1000, seed=1)[0]
    targets, levels = images[:64], [0.003, 0.01, 0.03, 0.1, 0.3]
    audit = visual_audit(targets, prior, levels, gallery=images[64:])
    seen = {level.noise_multiplier: (level.seen, level.noise_std) for level in audit.levels}
    one_step = {level.noise_multiplier: level.scores["MSE"].value for level in audit.levels}
    third = audit.levels[2]
    assert third.seen_scores["SSIM"].value < 0.3
    assert third.scores["SSIM"].value > 0.88
    assert third.scores["MSE"].value < 0.0035
    assert third.recognised > 0.85
    assert audit.levels[3].recognised < 0.12
    assert audit.levels[4].scores["SSIM"].value > 0.75
    for sigma in (0.1, 0.3):
        y, std = seen[sigma]
        found = {mode: float(mse(targets, prior.denoise(y, std, mode)).mean()) for mode in ("mean", "ddim", "sample")}
        assert found["mean"] == pytest.approx(one_step[sigma])
        assert found["mean"] <= 1.02 * found["ddim"] <= 1.1 * found["sample"]
        assert 1.4 < found["sample"] / found["mean"] < 2.3
    _spread(prior, targets[:12], seen[0.03][0][:12], seen[0.03][1][:12])
    shifted = DiffusionPrior.fit(textures(10_000, seed=0), "textures", iterations=1800)
    for level, other in zip(audit.levels[:4], visual_audit(targets, shifted, levels[:4]).levels, strict=True):
        assert other.scores["MSE"].value > 1.5 * level.scores["MSE"].value
    heap = EmpiricalPrior.fit(chests(4000, seed=0)[0])
    assert visual_audit(targets, heap, [0.03]).levels[0].scores["MSE"].value < 0.004


def _spread(prior, targets, seen, std):
    """Twelve draws: their mean is as good as the one step, and they differ where their mean errs."""
    draws = torch.stack([prior.denoise(seen, std, "sample", steps=30, seed=seed) for seed in range(12)])
    error, one_step = float(mse(targets, draws.mean(0)).mean()), float(mse(targets, prior.denoise(seen, std)).mean())
    assert error == pytest.approx(one_step, rel=0.15)
    pairs = torch.stack([draws.std(0).flatten(), (draws.mean(0) - targets).abs().flatten()])
    assert torch.corrcoef(pairs)[0, 1] > 0.25
