"""Attacks that read images off gradients without a search: exact without noise, as noisy as they must be with it."""

import numpy as np
import pytest
import torch
from torch import nn

from reticent.attacks.reconstruction.imprint import alone_in_a_bin, imprint, read_imprint
from reticent.attacks.reconstruction.linear_layer import invert_linear, label_counts, label_of_one
from reticent.attacks.reconstruction.matching import match_reconstructions
from reticent.attacks.reconstruction.observed import Defence, observed_gradient
from reticent.attacks.reconstruction.trap_weights import activation_rate, read_rows, trap
from reticent.errors import InputError
from reticent.training import Classification, Detection, Segmentation

NOTHING = Defence()
LOSS = Classification("binary", ("clear", "nodule")).loss_fn()


def batch(images, labels):
    return {"inputs": {"image": images}, "targets": {"label": labels}, "share": torch.ones(len(images))}


def observe(model, images, labels, defence=NOTHING, source=None):
    return observed_gradient(model, LOSS, batch(images, labels), defence, source)


def perceptron():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 2))


@pytest.mark.parametrize("rows", ["all", "largest"])
@pytest.mark.parametrize("defence", [Defence(), Defence(max_norm=0.1)])
def test_the_first_layer_gives_its_input_away_exactly_also_if_clipped(rows, defence, patients):
    images, labels = patients
    for i in range(5):
        gradient = observe(perceptron(), images[i : i + 1], labels[i : i + 1], defence)
        found = invert_linear(gradient["1.weight"], gradient["1.bias"], rows)
        assert (found - images[i].flatten()).abs().max() < 1e-6
        assert label_of_one(gradient["3.bias"]) == labels[i]


def test_a_layer_without_gradient_is_refused():
    with pytest.raises(InputError, match="no gradient"):
        invert_linear(torch.zeros(3, 4), torch.zeros(3))


def test_labels_of_a_batch_are_counted_repeated_ones_too():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    loss = Classification("multi-class", tuple("abcdefghij")).loss_fn()
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(300, 1, 8, 8, generator=generator)
    mean = model(torch.rand(500, 1, 8, 8, generator=generator)).softmax(1).mean(0).detach()
    for size in (1, 4, 20):
        labels = torch.randint(0, 10, (size,), generator=generator)
        gradient = observed_gradient(model, loss, batch(images[:size], labels), Defence(), None)
        found = label_counts(gradient["1.bias"], size, mean)
        assert found.tolist() == torch.bincount(labels, minlength=10).tolist()


@pytest.mark.parametrize(("images", "bins"), [(8, 32), (16, 64), (32, 64), (64, 128)])
def test_as_many_images_are_alone_in_a_bin_of_the_imprint_as_expected(images, bins, public, patients):
    """Over 15 batches; the tolerance is six standard errors of the 60 batches' mean, a false alarm below 1e-6."""
    layer = imprint(public, bins)
    exact = []
    for group, labels in zip(patients[0].split(images)[:15], patients[1].split(images), strict=False):
        matched = match_reconstructions(group, read_imprint(layer, observe(layer, group, labels)))
        exact.append(int((matched.scores < 1e-8).sum()))
    assert np.mean(exact) == pytest.approx(alone_in_a_bin(images, bins), abs=6 * np.sqrt(images / 6 / 15))


def test_the_expected_number_alone_is_the_published_one():
    for n, k, printed in ((8, 32, 6.41), (16, 64, 12.63), (32, 64, 19.64), (64, 128, 39.05), (64, 256, 50.01)):
        assert alone_in_a_bin(n, k) == pytest.approx(printed, abs=0.005)


def isolated(layer, images, size):
    """Share of images that are alone in some neuron of their batch."""
    with torch.no_grad():
        active = layer.layer(images.flatten(1)) > 0
    return np.mean([float(group[:, group.sum(0) == 1].any(1).double().mean()) for group in active.split(size)])


@pytest.mark.parametrize(("scale", "rate", "recovered"), [(0.9, 0.067, 0.56), (0.95, 0.265, 0.84), (1.0, 0.516, 0.80)])
def test_trap_weights_isolate_as_many_images_as_was_measured(scale, rate, recovered, public, patients):
    layers = [trap(public[:500], 256, 8, scale=scale, seed=seed) for seed in range(3)]
    assert np.mean([activation_rate(layer, patients[0]) for layer in layers]) == pytest.approx(rate, abs=0.05)
    assert np.mean([isolated(layer, patients[0], 8) for layer in layers]) == pytest.approx(recovered, abs=0.1)


def test_an_image_that_is_alone_in_a_neuron_is_recovered_exactly(public, patients):
    layer = trap(public[:500], 256, 8)
    exact = []
    for group, labels in zip(patients[0].split(8)[:20], patients[1].split(8), strict=False):
        matched = match_reconstructions(group, read_rows(layer, observe(layer, group, labels)))
        exact += (matched.scores < 1e-8).tolist()
    assert np.mean(exact) == pytest.approx(isolated(layer, patients[0][:160], 8), abs=0.02)


def test_a_scale_tuned_on_public_images_isolates_more_than_a_rate_of_one_in_n(public, patients):
    tuned, published = trap(public[:500], 256, 8), trap(public[:500], 256, 8, scale=0.93)
    assert activation_rate(published, patients[0]) == pytest.approx(1 / 8, abs=0.05)
    assert isolated(tuned, patients[0], 8) > isolated(published, patients[0], 8)


def test_images_of_another_intensity_range_are_recovered_too(public, patients):
    images, labels = 4 * patients[0][:8] - 2, patients[1][:8]
    layer = trap(4 * public[:500] - 2, 256, 8)
    matched = match_reconstructions(images, read_rows(layer, observe(layer, images, labels)))
    assert (matched.scores < 1e-8).double().mean() > 0.5


def test_a_layer_in_front_of_a_network_recovers_as_one_that_stands_alone(public, patients):
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Mish(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(144, 2))
    images, labels = patients[0][:8], patients[1][:8]
    found = []
    for network in ({}, {"inner": inner}):
        layer = trap(public[:500], 256, 8, **network)
        matched = match_reconstructions(images, read_rows(layer, observe(layer, images, labels)))
        found.append((matched.scores < 1e-8).tolist())
    assert found[0] == found[1]


def test_a_segmenter_is_attacked_by_the_same_layer(public, patients):
    layer = trap(public[:500], 256, 8, outputs=2, cells=tuple(public.shape[2:]))
    masks = (patients[0][:8, 0] > 0.5).long()
    data = {"inputs": {"image": patients[0][:8]}, "targets": {"mask": masks}, "share": torch.ones(8)}
    gradient = observed_gradient(
        layer, Segmentation("segmentation", ("air", "tissue")).loss_fn(), data, Defence(), None
    )
    matched = match_reconstructions(patients[0][:8], read_rows(layer, gradient))
    assert (matched.scores < 1e-8).double().mean() > 0.5


def test_noise_on_one_of_a_active_rows_is_a_times_that_on_all_of_them(public, patients, source):
    """Squared errors near sigma^2 a (r^2 + 1) for a single row, and near sigma^2 (r^2 + 1) for all rows of one image.

    The median over 120 images; rows and divisor are noised both, so that the ratio lies a little above 1.
    """
    sigma = 1e-3
    layer = trap(public[:500], 256, 8)
    single, all_rows = [], []
    for image, label in zip(patients[0][:120], patients[1], strict=False):
        gradient = observe(layer, image[None], label[None], Defence(1.0, sigma), source)
        weights, biases = gradient["layer.weight"], gradient["layer.bias"]
        with torch.no_grad():
            active = (layer.layer(image.flatten()) > 0).nonzero()[:, 0]
        energy = float(image.square().sum()) + 1
        row = int(active[0])
        one = weights[row] / biases[row]
        together = invert_linear(weights[active], biases[active])
        single.append(float((one - image.flatten()).square().mean()) / (sigma**2 * len(active) * energy))
        all_rows.append(float((together - image.flatten()).square().mean()) / (sigma**2 * energy))
    assert 1.0 < np.median(single) < 1.2
    assert 1.0 < np.median(all_rows) < 1.2


@pytest.mark.parametrize("norm", [0.01, 1.0, 30.0])
def test_a_layer_reaches_the_clipping_norm_whatever_it_is(norm, public, patients):
    layer = trap(public[:500], 64, 8, norm=norm)
    for image, label in zip(patients[0][:20], patients[1], strict=False):
        gradient = observe(layer, image[None], label[None])
        assert sum(float(g.square().sum()) for g in gradient.values()) ** 0.5 > norm


def test_trap_attack_is_no_better_than_public_images_from_a_noise_of_one_hundredth_on(public, patients, source):
    images, labels = patients[0][:64], patients[1][:64]
    layer, recovered = trap(public[:500], 256, 16), {}
    for sigma in (0.0, 1e-4, 1e-2):
        errors = []
        for group, own in zip(images.split(16), labels.split(16), strict=True):
            gradient = observe(layer, group, own, Defence(1.0, sigma), source)
            errors.append(match_reconstructions(group, read_rows(layer, gradient).clamp(0, 1)).scores)
        recovered[sigma] = float((torch.cat(errors) < 1e-3).double().mean())
    assert recovered[1e-4] > 0.4
    assert recovered[1e-2] == 0
    assert (match_reconstructions(images, public[:256]).scores > 1e-3).all()


def test_noise_without_a_norm_is_refused():
    with pytest.raises(InputError, match="max_norm"):
        Defence(noise_multiplier=1.0)


def test_a_layer_without_public_images_is_refused(public):
    with pytest.raises(InputError, match="public images"):
        imprint(public[:0], 8)


def test_a_detector_is_attacked_by_the_same_layer(public, patients):
    task, images = Detection("detection", ("lesion",)), patients[0][:8]
    outputs, *cells = task.output_shape(tuple(images.shape[2:]))
    layer = trap(public[:500], 256, 8, outputs=outputs, cells=tuple(cells))
    targets = task.made_up_targets(8, tuple(images.shape[2:]), torch.Generator().manual_seed(0))
    data = {"inputs": {"image": images}, "targets": targets, "share": torch.ones(8)}
    gradient = observed_gradient(layer, task.loss_fn(), data, Defence(), None)
    assert (match_reconstructions(images, read_rows(layer, gradient)).scores < 1e-8).double().mean() > 0.5
