"""The bias of clipped gradients: identity, inequality and their closed cases."""

import pytest
import torch
from torch import nn

from reticent.training import clipping_bias


def losses(model, batch):
    return nn.functional.cross_entropy(model(batch["x"]), batch["y"], reduction="none")


def make(records=12):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    return model, {"x": torch.randn(records, 5).double(), "y": torch.arange(records) % 3}


def gradients(model, batch):
    rows = []
    for i in range(len(batch["y"])):
        loss = losses(model, {key: value[i : i + 1] for key, value in batch.items()}).sum()
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    return torch.stack(rows)


@pytest.mark.parametrize("max_norm", [0.2, 0.8, 3.0])
def test_the_bias_is_the_mean_of_what_is_cut_off_and_its_bound_holds(max_norm):
    model, batch = make()
    g = gradients(model, batch)
    norms = g.norm(dim=1)
    cut = -(g * (1 - max_norm / norms).clamp(min=0)[:, None]).mean(0)
    found = clipping_bias(model, losses, batch, max_norm=max_norm, noise_multiplier=1.0, batch_size=4)
    assert found.bias == pytest.approx(cut.norm().item(), rel=1e-6, abs=1e-9)
    assert found.bound == pytest.approx((norms - max_norm).clamp(min=0).mean().item(), rel=1e-6)
    assert found.bias <= found.bound + 1e-9
    assert found.clipped == (norms > max_norm).double().mean().item()
    mean = g.mean(0)
    assert found.relative == pytest.approx((cut.norm() / mean.norm()).item(), rel=1e-6, abs=1e-9)


def test_the_mean_of_many_poisson_batches_is_off_by_the_bias():
    """4000 batches: each coordinate's mean within 5.5 standard errors; false alarm below 1e-6 over 67 coordinates."""
    model, batch = make()
    g = gradients(model, batch)
    clipped = g * (0.4 / g.norm(dim=1)).clamp(max=1)[:, None]
    rate, count = 0.3, len(g)
    drawn = (torch.rand(4000, count, generator=torch.Generator().manual_seed(1)) < rate).double()
    estimates = drawn @ clipped / (rate * count)
    found = clipping_bias(model, losses, batch, max_norm=0.4, noise_multiplier=1.0, batch_size=4)
    difference = estimates.mean(0) - g.mean(0)
    expected = clipped.mean(0) - g.mean(0)
    assert ((difference - expected).abs() <= 5.5 * estimates.std(0) / 4000**0.5 + 1e-12).all()
    assert found.bias == pytest.approx(expected.norm().item(), rel=1e-6)


def test_parallel_gradients_meet_the_bound():
    model = nn.Linear(3, 1, bias=False).double()
    x = torch.tensor([[1.0, 0, 0], [3, 0, 0], [5, 0, 0]]).double()
    found = clipping_bias(
        model, lambda model, batch: model(batch)[:, 0], x, max_norm=0.5, noise_multiplier=2.0, batch_size=2
    )
    assert found.bias == pytest.approx(found.bound, rel=1e-9)
    assert found.bound == pytest.approx(2.5)
    assert found.cosine == pytest.approx(1)
    assert found.signal[""] == pytest.approx(0.5 / (2.0 * 0.5 / 2 * 3**0.5), rel=1e-9)
