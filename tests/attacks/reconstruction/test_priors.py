"""Priors of an attacker: closed forms, and a diffusion model whose exact score is known."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.attacks.reconstruction.priors import (
    DiffusionPrior,
    EmpiricalPrior,
    GaussianPrior,
    diffusion_training,
)
from reticent.attacks.reconstruction.priors.schedule import denoised, matching_levels, signal_shares
from reticent.errors import InputError


def normal_images(count, seed, variances, mean=0.5):
    """Images (n, 1, 1, k) of independent normal pixels, inside [0, 1] but for events of ten deviations."""
    values = torch.randn(count, len(variances), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (mean + values * torch.tensor(variances, dtype=torch.float64).sqrt()).reshape(count, 1, 1, -1)


VARIANCES = [0.002, 0.001, 0.0005, 0.0001, 0.00001]


def test_the_error_of_wieners_filter_is_the_mean_of_e_s2_over_e_plus_s2():
    prior = GaussianPrior.fit(normal_images(20_000, 0, VARIANCES))
    targets = normal_images(20_000, 1, VARIANCES)
    for std in (0.003, 0.01, 0.05, 1.0):
        noise = torch.randn(targets.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        found = prior.denoise(targets + std * noise, torch.full((20_000,), std))
        exact = sum(e * std**2 / (e + std**2) for e in VARIANCES) / 5
        assert float((found - targets).square().mean()) == pytest.approx(exact, rel=0.05)
        assert prior.expected_mse(std) == pytest.approx(exact, rel=0.05)


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 40), st.integers(0, 2**31))
def test_wieners_filter_leaves_what_has_no_noise_and_gives_the_mean_where_there_is_much(count, seed):
    images = torch.rand(count, 1, 4, 5, generator=torch.Generator().manual_seed(seed))
    prior = GaussianPrior.fit(images)
    assert torch.allclose(prior.denoise(images, torch.zeros(count)), images, atol=1e-6)
    assert torch.allclose(prior.denoise(images, torch.full((count,), 1e6)), prior.mean.float(), atol=1e-5)


def test_a_prior_of_equal_images_gives_that_image():
    images = torch.full((5, 1, 3, 3), 0.25)
    found = GaussianPrior.fit(images).denoise(torch.rand(2, 1, 3, 3), torch.full((2,), 0.1))
    assert torch.allclose(found, torch.full_like(found, 0.25))


def test_covariance_is_shrunk_as_ledoit_and_wolf_do():
    from sklearn.covariance import ledoit_wolf

    images = normal_images(30, 3, VARIANCES * 4)
    covariance, _ = ledoit_wolf(images.flatten(1).numpy())
    prior = GaussianPrior.fit(images)
    v, rest = prior.components, prior.rest
    found = v @ torch.diag(prior.variances - rest) @ v.T + rest * torch.eye(20, dtype=torch.float64)
    assert torch.allclose(found, torch.from_numpy(covariance), atol=1e-10)


def test_the_empirical_prior_goes_from_the_nearest_image_to_the_mean(public, patients):
    prior = EmpiricalPrior.fit(public[:300])
    targets = patients[0][:5]
    nearest = public[:300][torch.cdist(targets.flatten(1), public[:300].flatten(1)).argmin(1)]
    assert torch.allclose(prior.denoise(targets, torch.full((5,), 1e-3)), nearest, atol=1e-6)
    assert torch.allclose(prior.denoise(targets, torch.full((5,), 1e4)), prior.mean.float(), atol=1e-4)


@pytest.mark.parametrize("images", [torch.rand(1, 1, 4, 4) + 1, torch.rand(40, 1, 4, 4) * 255, torch.rand(0, 1, 4, 4)])
@pytest.mark.parametrize("prior", [GaussianPrior, EmpiricalPrior, DiffusionPrior])
def test_priors_refuse_images_of_another_range_and_too_few(prior, images):
    with pytest.raises(InputError, match=r"public images|\[0, 1\]"):
        prior.fit(images)


def test_an_image_enters_at_the_level_with_its_ratio_of_noise_to_signal():
    assert matching_levels(torch.tensor([0.1, 0.5, 2.0])).tolist() == [55, 289, 701]
    shares = signal_shares()
    ratios = ((1 - shares) / shares).sqrt()
    assert matching_levels(ratios).tolist() == pytest.approx(list(range(1000)), abs=12)  # ends are cut off
    assert int(matching_levels(torch.tensor([1e-9]))) == 0


@pytest.mark.parametrize(
    ("std", "one_step", "ddim", "sample"),
    [(0.1, 0.00948, 0.00957, 0.01896), (0.5, 0.12518, 0.14670, 0.25036), (2.0, 0.2352, 0.3785, 0.4705)],
)
def test_errors_with_an_exact_score_are_those_of_the_normal_posterior(std, one_step, ddim, sample):
    """Images are N(0.3, 0.5^2): the posterior mean errs by t (1 - r), DDIM by 2 t (1 - sqrt r), a draw by 2 t (1 - r).

    t = 0.25, r = t / (t + s^2). Means of 10,000 have a standard error of about 1.5 %; levels are discrete.
    """
    generator = torch.Generator().manual_seed(0)
    truth = 0.3 + 0.5 * torch.randn(10_000, 1, generator=generator, dtype=torch.float64)
    seen = truth + std * torch.randn(truth.shape, generator=generator, dtype=torch.float64)
    shares = signal_shares()

    def clean(x, level):
        share = shares[level][:, None]
        return 0.3 + share.sqrt() * 0.25 / (share * 0.25 + 1 - share) * (x - share.sqrt() * 0.3)

    for mode, steps, expected in (("mean", 1, one_step), ("ddim", 200, ddim), ("sample", 400, sample)):
        found = denoised(seen, torch.full((10_000,), std, dtype=torch.float64), clean, mode, steps, generator)
        assert float((found - truth).square().mean()) == pytest.approx(expected, rel=0.08)


@pytest.fixture(scope="module")
def briefly_trained(public):
    return DiffusionPrior.fit(public[:64], "made-up chests", iterations=8, channels=(8, 16))


def test_a_diffusion_prior_is_the_same_after_saving_and_gives_the_same_with_the_same_seed(
    briefly_trained, tmp_path, patients
):
    briefly_trained.save(tmp_path / "prior.safetensors")
    again = DiffusionPrior.load(tmp_path / "prior.safetensors")
    seen = patients[0][:3] + 0.2 * torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert again.source == "made-up chests"
    for mode in ("mean", "ddim", "sample"):
        found = [p.denoise(seen, torch.full((3,), 0.2), mode, steps=4, seed=1) for p in (briefly_trained, again)]
        assert torch.equal(*found)
        assert found[0].min() >= 0
        assert found[0].max() <= 1
    drawn = [again.denoise(seen, torch.full((3,), 0.2), "sample", steps=4, seed=s) for s in (1, 2)]
    assert not torch.equal(*drawn)


def test_training_with_the_same_seed_repeats_and_leaves_other_random_numbers_alone(public):
    state = torch.get_rng_state()
    one, other = (DiffusionPrior.fit(public[:64], iterations=3, channels=(8, 16), seed=4) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in one.network.state_dict().items():
        assert torch.equal(value, other.network.state_dict()[name])


def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(public, monkeypatch, tmp_path):
    monkeypatch.setattr(diffusion_training, "_KEPT_EVERY", 2)
    options = {"iterations": 6, "channels": (8, 16), "seed": 4}
    checkpoint, seen = tmp_path / "unfinished", []

    def interrupting(done, total):
        seen.append(done)
        if done == 5 and len(seen) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        DiffusionPrior.fit(public[:64], checkpoint=checkpoint, progress=interrupting, **options)
    went_on = DiffusionPrior.fit(public[:64], checkpoint=checkpoint, progress=interrupting, **options)
    assert seen == [1, 2, 3, 4, 5, 5, 6]  # the fifth had not been kept
    assert not checkpoint.exists()
    at_once = DiffusionPrior.fit(public[:64], **options)
    for name, value in at_once.network.state_dict().items():
        assert torch.equal(value, went_on.network.state_dict()[name])


def test_images_of_odd_sides_and_volumes_are_denoised_too():
    for shape in ((1, 9, 14), (3, 12, 10), (1, 6, 7, 8)):
        images = torch.rand(32, *shape, generator=torch.Generator().manual_seed(0))
        prior = DiffusionPrior.fit(images, iterations=2, channels=(8, 16))
        assert prior.denoise(images[:2], torch.tensor([0.1, 0.4]), "ddim", steps=2).shape == (2, *shape)


def test_a_diffusion_prior_says_where_it_knows_nothing(briefly_trained):
    assert briefly_trained.knows_nothing(torch.tensor([0.1, 1e5])).tolist() == [False, True]


def test_files_that_are_no_prior_are_refused(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"x\.safetensors"):
        DiffusionPrior.load(tmp_path / "x.safetensors")
