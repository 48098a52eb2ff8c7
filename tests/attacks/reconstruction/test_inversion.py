"""Gradient inversion by search: beats the mean image without noise, and a grey image no longer with much of it."""

from dataclasses import replace

import pytest
import torch
from chests import textures
from torch import nn

from reticent.attacks.reconstruction.inversion import SEARCHES, Search, invert_gradient
from reticent.attacks.reconstruction.matching import match_reconstructions
from reticent.attacks.reconstruction.objectives import cosine, layerwise_cosine, likelihood, squared, total_variation
from reticent.attacks.reconstruction.observed import Defence, observed_gradient
from reticent.attacks.reconstruction.scores import psnr
from reticent.attacks.reconstruction.soft_loss import probabilities, soft_loss, soft_targets
from reticent.errors import InputError
from reticent.models import build_model
from reticent.training import Classification, Segmentation

TASK = Classification("binary", ("clear", "nodule"))


def lenet(activation=nn.SELU):
    torch.manual_seed(3)
    layers = [(1, 12, 2), (12, 12, 2), (12, 12, 1)]
    parts = [part for a, b, stride in layers for part in (nn.Conv2d(a, b, 5, stride, 2), activation())]
    model = nn.Sequential(*parts, nn.Flatten(), nn.Linear(12 * 49, 2))
    if activation is nn.Sigmoid:
        for parameter in model.parameters():
            nn.init.uniform_(parameter, -0.5, 0.5)
    return model


def batch(images, targets):
    return {"inputs": {"image": images}, "targets": targets, "share": torch.ones(len(images))}


def invert(model, images, labels, search, defence=Defence(), source=None, **options):  # noqa: B008
    seen = observed_gradient(model, TASK.loss_fn(), batch(images, {"label": labels}), defence, source)
    if "unknown" not in options:
        options["targets"] = soft_targets(TASK, {"label": labels})
    return invert_gradient(
        model, soft_loss(TASK), seen, (1, 28, 28), search=search, defence=defence, records=len(images), **options
    )


def norm_of(model, image, label):
    gradient = observed_gradient(model, TASK.loss_fn(), batch(image, {"label": label}), Defence())
    return sum(float(g.square().sum()) for g in gradient.values()) ** 0.5


def baseline(images, public):
    return psnr(images, public.mean(0).expand_as(images))


@pytest.mark.parametrize("search", ["inverting-gradients", "likelihood"])
def test_a_clipped_gradient_shows_more_than_the_mean_image(search, patients, public):
    image, label = patients[0][:1], patients[1][:1]
    found = invert(lenet(), image, label, replace(SEARCHES[search], iterations=250), Defence(max_norm=1.0))
    assert psnr(image, found.images) > baseline(image, public) + 2
    assert found.distance == min(found.history)
    assert found.images.min() >= 0
    assert found.images.max() <= 1


@pytest.mark.parametrize("search", ["inverting-gradients", "likelihood"])
def test_with_noise_a_tenth_of_the_gradient_nothing_beats_a_grey_image(search, patients, source):
    image, label = patients[0][:1], patients[1][:1]
    model = lenet(nn.ReLU)
    defence = Defence(norm_of(model, image, label), 0.1)
    found = invert(model, image, label, replace(SEARCHES[search], iterations=150), defence, source)
    assert psnr(image, found.images) < psnr(image, torch.full_like(image, 0.3))


def test_deep_leakage_recovers_an_image_of_a_smooth_network_nearly_exactly(patients):
    image, label = patients[0][:1], patients[1][:1]
    found = invert(lenet(nn.Sigmoid), image, label, SEARCHES["deep-leakage"])
    assert psnr(image, found.images) > 30


def test_images_of_a_batch_are_found_together_and_told_apart():
    images, labels = textures(2, seed=1), torch.tensor([0, 1])
    found = invert(lenet(), images, labels, replace(SEARCHES["likelihood"], iterations=300))
    matched = match_reconstructions(images, found.images, "PSNR", one_to_one=True)
    assert sorted(matched.index.tolist()) == [0, 1]
    assert (matched.scores > baseline(images, textures(200, seed=0)) + 2).all()
    crossed = psnr(images, found.images[matched.index.flip(0)])
    assert (matched.scores > crossed + 2).all()


def test_an_unknown_label_is_found_with_the_image(patients, public):
    image, label = patients[0][:1], patients[1][:1]
    found = invert(
        lenet(), image, label, replace(SEARCHES["likelihood"], iterations=300),
        unknown=lambda free: probabilities(TASK, free), unknown_shape=(2,),
    )  # fmt: skip
    assert found.targets.argmax() == label
    assert psnr(image, found.images) > baseline(image, public) + 2


def test_a_segmenters_gradient_shows_the_image_with_a_known_mask():
    torch.manual_seed(0)
    model = build_model(
        "default", spatial_dims=2, in_channels=1, out_channels=2, image_size=(28, 28), output="mask",
        arguments={"width": 16},
    )  # fmt: skip
    task, image = Segmentation("segmentation", ("dark", "light")), textures(1, seed=1)
    targets = {"mask": (image[:, 0] > 0.6).long()}
    seen = observed_gradient(model, task.loss_fn(), batch(image, targets), Defence())
    found = invert_gradient(
        model, soft_loss(task), seen, (1, 28, 28), search=replace(SEARCHES["inverting-gradients"], iterations=150),
        targets=soft_targets(task, targets),
    )  # fmt: skip
    assert psnr(image, found.images) > baseline(image, textures(200, seed=0)) + 2


def test_searches_repeat_with_their_seed_and_keep_the_best_restart(patients):
    image, label = patients[0][:1], patients[1][:1]
    search = Search("cosine", iterations=6)
    one, same, other = (invert(lenet(), image, label, search, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.images, same.images)
    assert not torch.equal(one.images, other.images)
    both = invert(lenet(), image, label, replace(search, restarts=2), seed=1)
    assert both.distance == min(one.distance, other.distance)


def test_images_lie_in_the_box_that_the_network_is_fed(patients):
    image, label = 4 * patients[0][:1] - 2, patients[1][:1]
    found = invert(lenet(), image, label, Search("cosine", iterations=10), box=(-2.0, 2.0))
    assert -2 <= found.images.min() < -1
    assert 1 < found.images.max() <= 2


def soft_cases():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 1, 28, 28, generator=generator)
    several = (torch.rand(3, 4, generator=generator) > 0.5).float()
    segmenter = build_model(
        "default", spatial_dims=2, in_channels=1, out_channels=3, image_size=(28, 28), output="mask"
    )  # fmt: skip
    masks = torch.randint(0, 3, (3, 28, 28), generator=generator)
    yield TASK, lenet(), images, {"label": torch.tensor([0, 1, 1])}
    yield (
        Classification("multi-label", tuple("abcd")),
        nn.Sequential(nn.Flatten(), nn.Linear(784, 4)),
        images,
        {"label": several},
    )
    yield Segmentation("segmentation", tuple("abc")), segmenter, images, {"mask": masks}


@pytest.mark.parametrize("case", list(soft_cases()), ids=lambda case: case[0].kind)
def test_an_attackers_loss_and_gradient_are_the_products_where_targets_are_certain(case):
    task, model, images, targets = case
    soft = soft_loss(task)(model, images, soft_targets(task, targets))
    hard = task.loss_fn()(model, batch(images, targets))
    assert torch.allclose(soft, hard, atol=1e-5)
    parameters = list(model.parameters())
    for one, other in zip(
        torch.autograd.grad(soft.sum(), parameters), torch.autograd.grad(hard.sum(), parameters), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-4, rtol=1e-3)


def test_objectives_are_least_where_the_gradients_agree():
    generator = torch.Generator().manual_seed(0)
    seen = [torch.randn(4, 5, generator=generator), torch.randn(3, generator=generator)]
    off = [g + 0.1 * torch.randn(g.shape, generator=generator) for g in seen]
    for objective in (cosine, layerwise_cosine, squared, likelihood(0.5)):
        assert float(objective(seen, seen)) == pytest.approx(0, abs=1e-6)
        assert objective(off, seen) > 1e-4
    assert float(cosine([3 * g for g in seen], seen)) == pytest.approx(0, abs=1e-6)
    assert float(cosine([3 * seen[0], seen[1]], seen)) > 1e-3  # layers in another proportion
    assert float(layerwise_cosine([3 * seen[0], seen[1]], seen)) == pytest.approx(0, abs=1e-6)
    assert float(likelihood(0.5)(off, seen)) == pytest.approx(float(squared(off, seen)) / 0.5)


def test_total_variation_counts_every_axis():
    ramp = torch.arange(4.0).reshape(1, 1, 4, 1).expand(1, 1, 4, 3)
    assert float(total_variation(ramp)) == pytest.approx(0.5)
    assert float(total_variation(torch.ones(1, 1, 3, 3, 3))) == 0


def test_targets_are_known_or_searched_for(patients):
    with pytest.raises(InputError, match="either targets"):
        invert_gradient(lenet(), soft_loss(TASK), {}, (1, 28, 28), search=Search("cosine"))
