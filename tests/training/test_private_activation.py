"""Privatised activations: what they release, and what a network must not do before or around them."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from reticent.accounting import LocalGaussian
from reticent.errors import InputError
from reticent.training import PrivateActivation, bound_records, check_private_activations
from reticent.training.noise import SeededSource, gaussian_noise

BOUND = 0.7
EXTREMES = {
    "zero": [0.0, 0.0, 0.0],
    "tiny": [1e-44, 0.0, -1e-44],
    "small": [1e-30, 2e-30, 0.0],
    "inside": [0.1, -0.2, 0.3],
    "outside": [4.0, -5.0, 6.0],
    "huge": [3e38, -3e38, 3e38],
    "infinite": [math.inf, 1.0, -math.inf],
    "not a number": [math.nan, 0.2, 0.1],
}


def frozen(*layers):
    return nn.Sequential(*layers).requires_grad_(False)


def layer(noise=2.0, **options):
    return PrivateActivation(BOUND, noise, source=SeededSource(0), **options)


@pytest.mark.parametrize("mode", ["clip", "normalise"])
@pytest.mark.parametrize("values", EXTREMES.values(), ids=EXTREMES)
def test_no_record_has_a_larger_norm_than_the_bound(values, mode):
    found = bound_records(torch.tensor([values]), BOUND, mode)
    assert found.isfinite().all()
    assert found.double().norm() <= BOUND * (1 + 1e-6)


def test_the_norm_is_that_of_all_that_is_released_for_a_record_and_not_of_a_feature_map():
    maps = torch.randn(5, 4, 3, 3, dtype=torch.float64)
    for mode in ("clip", "normalise"):
        found = bound_records(maps, BOUND, mode)
        assert found.shape == maps.shape
        torch.testing.assert_close(found.flatten(1).norm(dim=1), torch.full((5,), BOUND).double())
    inside = 0.01 * maps
    torch.testing.assert_close(bound_records(inside, BOUND, "clip"), inside, rtol=1e-12, atol=0)


@pytest.mark.parametrize("mode", ["clip", "normalise"])
@pytest.mark.parametrize("norm", [0.3, 0.69, 0.71, 5.0], ids=lambda norm: f"norm {norm}, bound 0.7")
def test_gradients_pass_through_the_bound(mode, norm):
    torch.manual_seed(0)
    x = torch.randn(3, 2, 4, dtype=torch.float64)
    x = (norm * x / x.flatten(1).norm(dim=1)[:, None, None]).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: bound_records(a, BOUND, mode), x)


def test_the_best_attack_on_a_released_activation_is_that_of_a_distance_of_two_bounds():
    """Two adjacent records far outside of the ball, one on each side; 10^6 releases of each.

    The AUC of the likelihood ratio is Phi(mu / sqrt 2). Its standard deviation is below 4e-4, so that 0.002 is passed
    by a false alarm with a probability below 1e-6; at a sensitivity of one bound it would be off by 0.09.
    """
    noise, draws = 2.0, 1_000_000
    module = PrivateActivation(BOUND, noise, source=SeededSource(1))
    records = torch.tensor([[5.0, 0.0], [-5.0, 0.0]])
    released = module(records.repeat_interleave(draws, 0))
    score = released[:, 0].numpy()
    ranks = stats.rankdata(score)
    auc = (ranks[:draws].sum() - draws * (draws + 1) / 2) / draws**2
    mu = module.mechanism(1).profile().mu(1e-10).upper
    assert mu == pytest.approx(2 / noise)
    assert auc == pytest.approx(stats.norm.cdf(mu / math.sqrt(2)), abs=0.002)


def test_noise_has_the_stated_deviation_is_fresh_each_time_and_stays_in_evaluation_mode():
    module = PrivateActivation(BOUND, 3.0).eval()
    zeros = torch.zeros(400, 1000)
    first, second = module(zeros), module(zeros)
    # 400 000 values: a relative error of the deviation beyond 0.006 has probability < 1e-7
    assert first.std().item() == pytest.approx(3.0 * BOUND, rel=0.006)
    assert not torch.equal(first, second)


def test_fresh_noise_costs_the_root_of_the_releases():
    module = layer()
    assert module.mechanism(9, "subject") == LocalGaussian(2.0, 9)
    once, ninefold = (module.mechanism(k).profile().mu(1e-10).upper for k in (1, 9))
    assert ninefold == pytest.approx(3 * once)


class Unsound(nn.Module):
    """What the layer refuses: noise on the output of a layer that is trained."""

    def __init__(self, noise):
        super().__init__()
        self.first, self.head, self.noise = nn.Linear(20, 6), nn.Linear(6, 2), noise

    def forward(self, x):
        bounded = bound_records(self.first(x), 1.0)
        return self.head(bounded + gaussian_noise(bounded, self.noise, SeededSource(3)))


def test_the_weights_of_a_layer_before_the_noise_show_the_record_however_much_noise_there_is():
    torch.manual_seed(0)
    model, x = Unsound(noise=1000.0), torch.randn(1, 20)
    before = model.first.weight.detach().clone()
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    nn.functional.cross_entropy(model(x), torch.tensor([1])).backward()
    optimiser.step()
    moved = model.first.weight.detach() - before
    row = moved[moved.norm(dim=1).argmax()]
    assert abs(torch.cosine_similarity(row, x[0], dim=0).item()) == pytest.approx(1.0, abs=1e-3)


def test_ours_refuses_that_network_in_the_check_and_in_the_forward_pass():
    model = nn.Sequential(nn.Linear(20, 6), layer(1000.0), nn.Linear(6, 2))
    x = torch.randn(2, 20)
    with pytest.raises(InputError, match=r"0\.(weight|bias) comes before the noise and requires gradients") as caught:
        check_private_activations(model, x)
    assert "Freeze it" in str(caught.value)
    with pytest.raises(InputError, match="computed with the raw image"):
        model(x)


def test_a_frozen_network_passes_and_its_head_learns_from_the_noisy_activations_alone():
    model = nn.Sequential(frozen(nn.Flatten(), nn.Linear(20, 6), nn.ReLU()), layer(), nn.Linear(6, 2))
    x = torch.randn(4, 4, 5)
    check_private_activations(model, x)
    model(x).sum().backward()
    assert model[0][1].weight.grad is None
    assert model[2].weight.grad.isfinite().all()


def test_one_trained_scale_or_shift_before_the_noise_is_named():
    encoder = frozen(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4))
    encoder[1].bias.requires_grad_(True)
    model = nn.Sequential(encoder, nn.Flatten(), layer(), nn.Linear(64, 2))
    with pytest.raises(InputError, match=r"0\.1\.bias comes before the noise"):
        check_private_activations(model, torch.randn(2, 1, 6, 6))


def test_batch_statistics_are_refused_before_the_noise_and_allowed_behind_it_or_frozen():
    encoder = frozen(nn.Linear(20, 6), nn.BatchNorm1d(6))
    model = nn.Sequential(encoder, layer(), nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))
    x = torch.randn(8, 20)
    with pytest.raises(InputError, match=r"layer '0\.1' \(BatchNorm in training mode\)"):
        check_private_activations(model, x)
    encoder.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check_private_activations(model, x)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class WithSkip(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.noisy, self.head = frozen(nn.Linear(20, 20)), layer(), nn.Linear(20, 2)

    def forward(self, inputs):
        return self.head(self.noisy(self.encoder(inputs["image"])) + inputs["image"])


class WithHiddenSkip(WithSkip):
    def forward(self, inputs):
        with torch.no_grad():
            raw = self.encoder(inputs["image"])
        return self.head(self.noisy(raw) + raw)


@pytest.mark.parametrize("kind", [WithSkip, WithHiddenSkip])
def test_a_path_around_the_noise_is_refused(kind):
    with pytest.raises(InputError, match="on a path around the PrivateActivation"):
        check_private_activations(kind(), {"image": torch.randn(3, 20)})


def test_a_network_without_the_layer_is_refused():
    with pytest.raises(InputError, match="has no PrivateActivation"):
        check_private_activations(nn.Linear(3, 2), torch.randn(2, 3))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PrivateActivation(0.0, 1.0), "bound is 0"),
        (lambda: PrivateActivation(math.inf, 1.0), "bound is inf"),
        (lambda: PrivateActivation(1.0, 0.0), "noise_multiplier"),
        (lambda: PrivateActivation(1.0, 1.0, "tanh"), "mode is 'tanh'"),
    ],
)
def test_constants_out_of_range_are_named(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_an_ordinary_source_is_not_seeded():
    draws = [np.asarray(PrivateActivation(1.0, 1.0)(torch.zeros(1, 8))) for _ in range(2)]
    assert not np.array_equal(*draws)
