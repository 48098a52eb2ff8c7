"""Private features: released once for every unit, whatever is trained on them; and how they compare with DP-SGD."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from reticent.accounting import Composition, EpsilonTarget, FixedSizeGaussian, LocalGaussian, calibrate
from reticent.errors import InputError
from reticent.training import (
    FrozenFeatures,
    PrivateFeatures,
    clipped_grad,
    private_features_mechanism,
    privatise_features,
)
from reticent.training.frozen_features import feature_classifier, random_projection
from reticent.training.noise import SeededSource, gaussian_noise
from reticent.training.private_features import randomised_response

WIDTH = 16


def identity(mode="clip", bound=1.0, width=WIDTH):
    return FrozenFeatures(nn.Identity(), width, width, bound, mode)


def release(x, labels, units=None, *, noise=1.0, seed=0, encoder=None, **options):
    return privatise_features(
        encoder or identity(width=x.shape[1]),
        lambda records: x[records],
        labels,
        units or [[record] for record in range(len(x))],
        noise_multiplier=noise,
        source=SeededSource(seed),
        **options,
    )


def linear_head(batch, classes=2, decay=1e-4):
    """A linear classifier fitted to convergence: any optimiser and number of steps cost the same."""
    x, y, share = batch["inputs"]["features"], batch["targets"]["label"], batch["share"]
    head = nn.Linear(x.shape[1], classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        losses = nn.functional.cross_entropy(head(x), y, reduction="none") * share
        total = losses.sum() / share.sum() + decay * head.weight.square().sum()
        total.backward()
        return total

    optimiser.step(loss)
    return head


def accuracy(head, x, y):
    return (head(x).argmax(1) == y).double().mean().item()


def test_m_vectors_leave_for_every_unit_whether_it_has_fewer_records_or_more():
    x = torch.eye(WIDTH)[:7]
    units = [[0], [1, 2], [3, 4, 5, 6]]
    found = release(x, [0, 1, 1, 0, 0, 0, 0], units, noise=1e-9, records_per_unit=3)
    assert found.values.shape == (3, 3, WIDTH)
    sources = found.values.round().argmax(2)
    assert set(sources[0].tolist()) == {0}
    assert set(sources[1].tolist()) == {1, 2}
    assert len(set(sources[2].tolist())) == 3
    assert set(sources[2].tolist()) <= {3, 4, 5, 6}


@pytest.mark.parametrize("m", [1, 4])
def test_the_noise_of_m_vectors_is_that_of_one_release_of_their_concatenation(m):
    units = [[2 * k, 2 * k + 1] for k in range(3000)]
    found = release(torch.zeros(6000, WIDTH), [0] * 6000, units, noise=1.5, records_per_unit=m)
    # at least 48 000 values: a relative error of the deviation beyond 0.018 has probability < 1e-7
    assert found.values.std().item() == pytest.approx(1.5 * math.sqrt(m), rel=0.018)
    assert found.mechanism == LocalGaussian(1.5)
    rows = found.batch()["inputs"]["features"]
    assert rows.shape == (3000, WIDTH)  # vectors of one label are averaged: the noise is 1.5 again
    assert rows.std().item() == pytest.approx(1.5, rel=0.018)


def test_rows_are_a_units_vectors_by_label_and_weigh_one_unit_together():
    x = torch.eye(WIDTH)[:5]
    found = release(x, [0, 1, 1, 1, 2], [[0, 1, 2], [3, 4]], noise=1e-9, records_per_unit=3)
    batch = found.batch()
    assert batch["share"].sum() == pytest.approx(2)
    for row, label in zip(batch["inputs"]["features"], batch["targets"]["label"].tolist(), strict=True):
        expected = {0: [0], 1: [1, 2], 2: [4]}
        assert set(row.round(decimals=3).nonzero()[:, 0].tolist()) <= {*expected[label], 3}
    assert found.batch({1})["share"].sum() == pytest.approx(1)
    assert len(found.batch([])["share"]) == 0


def test_labels_that_are_public_are_recovered_from_what_was_trained_and_the_guarantee_says_so():
    """With noise that leaves nothing of the features, a head that memorises still knows every label."""
    torch.manual_seed(0)
    labels = torch.randint(2, (12,))
    found = release(torch.randn(12, WIDTH), labels.tolist(), noise=1e6)
    batch = found.batch()
    batch["inputs"]["features"] = batch["inputs"]["features"] / 1e6
    assert accuracy(linear_head(batch, decay=0.0), batch["inputs"]["features"], labels) == 1.0
    assert found.covered == ("features",)
    assert found.not_covered == ("labels: not covered, they are used as public",)


def test_randomised_labels_are_covered_and_composed():
    found = release(torch.randn(12, WIDTH), [0, 1, 2] * 4, noise=2.0, label_epsilon=0.7, classes=3)
    assert (found.covered, found.not_covered) == (("features", "labels"), ())
    mechanism = found.mechanism
    assert isinstance(mechanism, Composition)
    assert mechanism == private_features_mechanism(2.0, 0.7, 3)
    assert mechanism.neighbouring_relation == "replace-one"


@pytest.mark.parametrize(("epsilon", "categories"), [(0.5, 2), (1.5, 4)])
def test_a_label_is_kept_with_its_probability_and_else_becomes_each_other_one_equally_often(epsilon, categories):
    truth = np.full(200_000, 1)
    answers = randomised_response(truth, epsilon, categories, SeededSource(5))
    counts = np.bincount(answers, minlength=categories)
    total = math.exp(epsilon) + categories - 1
    expected = np.where(np.arange(categories) == 1, math.exp(epsilon), 1) / total
    assert stats.chisquare(counts, expected * len(truth)).pvalue > 1e-6


def test_one_randomised_label_stands_for_all_of_a_units_vectors():
    units = [[3 * k, 3 * k + 1, 3 * k + 2] for k in range(200)]
    found = release(torch.zeros(600, 4), [0, 1, 2] * 200, units, label_epsilon=50.0, classes=3, records_per_unit=3)
    assert (found.labels == found.labels[:, :1]).all()
    assert set(found.labels[:, 0].tolist()) == {0, 1, 2}
    assert len(found.batch()["share"]) == 200


def test_several_labels_leave_as_they_are_and_are_not_randomised():
    labels = [(0, 1, 1), (1, 0, 0)]
    found = release(torch.zeros(2, 4), labels, noise=2.0)
    assert found.batch()["targets"]["label"].tolist() == [[0, 1, 1], [1, 0, 0]]
    with pytest.raises(InputError, match="one class"):
        release(torch.zeros(2, 4), labels, label_epsilon=1.0, classes=3)


def test_what_is_kept_is_read_back_with_its_guarantee(tmp_path):
    found = release(torch.randn(6, WIDTH), [0, 1] * 3, noise=2.0, label_epsilon=0.7, classes=2, unit="record")
    found.save(tmp_path / "features.safetensors")
    again = PrivateFeatures.load(tmp_path / "features.safetensors")
    assert torch.equal(again.values, found.values)
    assert torch.equal(again.labels, found.labels)
    assert again.mechanism == found.mechanism
    (tmp_path / "broken").write_bytes(b"not a file of tensors")
    for path in ("broken", "missing"):
        with pytest.raises(InputError, match="no private features"):
            PrivateFeatures.load(tmp_path / path)


def test_an_encoder_that_would_be_trained_or_mixes_records_is_refused():
    for spoil, words in (
        (lambda e: e.encoder.weight.requires_grad_(True), "encoder.weight comes before the noise"),
        (lambda e: setattr(e, "encoder", nn.Sequential(nn.BatchNorm1d(WIDTH)).requires_grad_(False)), "BatchNorm"),
        (lambda e: setattr(e, "encoder", Centred()), "changes with the other records"),
    ):
        encoder = FrozenFeatures(nn.Linear(WIDTH, WIDTH), WIDTH, 4)
        spoil(encoder)
        with pytest.raises(InputError, match=words):
            release(torch.randn(8, WIDTH), [0, 1] * 4, encoder=encoder)


class Centred(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


def test_frozen_features_stay_frozen_bounded_and_the_same_in_every_process():
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(36, 50), nn.BatchNorm1d(50), nn.Dropout(0.5))
    features = FrozenFeatures(encoder, 50, 8)
    before = {name: value.clone() for name, value in features.state_dict().items()}
    x = torch.randn(5, 1, 6, 6)
    first = nn.Sequential(features).train()(x)
    assert first.shape == (5, 8)
    assert torch.equal(first, features(x))
    torch.testing.assert_close(first.norm(dim=1), torch.ones(5))
    assert not any(p.requires_grad for p in features.parameters())
    assert all(torch.equal(value, before[name]) for name, value in features.state_dict().items())
    assert torch.equal(random_projection(50, 8), features.projection)
    assert torch.equal(random_projection(5, 8), torch.eye(5))
    norms = (torch.randn(2000, 50) @ random_projection(50, 8).T).square().sum(1)
    assert norms.mean().item() == pytest.approx(50, rel=0.5)


def test_a_network_is_cut_before_its_last_linear_layer_and_gets_a_new_head():
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 50), nn.ReLU(), nn.Linear(50, 3))
    model = feature_classifier(network, 8, 2.0)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]
    assert model(torch.randn(2, 1, 6, 6)).shape == (2, 3)
    assert model.features.width == 50
    wrong = feature_classifier(nn.Sequential(nn.Linear(6, 3), nn.Flatten()), 8, 1.0)
    with pytest.raises(InputError, match="last Linear layer is not its head"):
        wrong(torch.randn(2, 5, 6))
    with pytest.raises(InputError, match="no Linear layer"):
        feature_classifier(nn.Conv2d(1, 2, 3), 8, 1.0)


def test_accuracy_on_noisy_features_of_two_separated_classes_has_its_closed_form():
    """Classes at a distance of 2 C behind the clip, test features noised as well: Phi(2 C / (2 sigma C))."""
    sigma, train, test = 1.2005, 4000, 20_000
    y = torch.arange(train + test) % 2
    x = torch.zeros(train + test, WIDTH)
    x[:, 3] = 5.0 * (2 * y - 1)  # clipped to 1
    rows = release(x, y.tolist(), noise=sigma, seed=2).batch()
    seen = {k: v[:train] for k, v in (("x", rows["inputs"]["features"]), ("y", y), ("s", rows["share"]))}
    head = linear_head({"inputs": {"features": seen["x"]}, "targets": {"label": seen["y"]}, "share": seen["s"]})
    found = accuracy(head, rows["inputs"]["features"][train:], y[train:])
    # test error: standard deviation 0.003, so that 0.02 is passed by a false alarm with probability < 1e-9
    assert found == pytest.approx(stats.norm.cdf(1 / sigma), abs=0.02)


def two_classes(n, seed):
    """Frozen features of norm 1 of two classes that a linear head separates at about 97 %."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 2
    x = torch.randn(n, WIDTH, generator=generator) / 4
    x[:, 0] += 0.5 * (2 * y - 1)
    return nn.functional.normalize(x), y


def dp_sgd_head(x, y, target, seed, steps=50):
    """The central mechanism: noise on sums of clipped gradients, all records in every step, also under replace-one."""
    noise = calibrate(lambda s: FixedSizeGaussian(s, len(x), len(x), steps), target).value
    head, source = nn.Linear(WIDTH, 2), SeededSource(seed)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimiser = torch.optim.SGD(head.parameters(), 2.0, momentum=0.9)

    def losses(model, batch):
        return nn.functional.cross_entropy(model(batch["x"]), batch["y"], reduction="none")

    for _ in range(steps):
        found = clipped_grad(head, losses, {"x": x, "y": y}, max_norm=1.0)
        for name, parameter in head.named_parameters():
            total = found.sum[name]
            parameter.grad = ((total + gaussian_noise(total, noise, source)) / len(x)).to(parameter)
        optimiser.step()
    return head


RECORDED = {2000: (0.959, 0.778), 16_000: (0.977, 0.964)}
"""Accuracy of the head with noise on gradients and with noise on features, by the number of records; over 20 seeds."""


@pytest.mark.parametrize(("n", "seeds"), [(2000, 10), (16_000, 2)])
def test_noise_on_gradients_beats_noise_on_features_at_equal_epsilon_and_by_less_the_more_records(n, seeds):
    """Both mechanisms on the same frozen features; test features are not noised. The seeds are fixed."""
    target = EpsilonTarget(1.0, 1e-5)
    sigma = calibrate(LocalGaussian, target).value
    test_x, test_y = two_classes(4000, 99)
    central, local = [], []
    for seed in range(seeds):
        x, y = two_classes(n, seed)
        local.append(accuracy(linear_head(release(x, y.tolist(), noise=sigma, seed=seed).batch()), test_x, test_y))
        central.append(accuracy(dp_sgd_head(x, y, target, seed), test_x, test_y))
    assert (np.mean(central), np.mean(local)) == pytest.approx(RECORDED[n], abs=0.02)
