"""Bias-aware minimisation: every unit is moved along its own gradient, and nothing else changes."""

import itertools

import pytest
import torch
from torch import nn

from reticent.training import BatchAdapter, clipped_grad

RADII = (1e-1, 1e-2, 1e-3)


def make(seed=0, dropout=0.0):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Tanh(), nn.Dropout(dropout), nn.Flatten(), nn.Linear(64, 3)
    ).double()
    batch = {"x": torch.randn(6, 1, 6, 6, dtype=torch.float64), "y": torch.tensor([0, 1, 2, 0, 1, 2])}
    return model, batch


def losses(model, batch):
    return nn.functional.cross_entropy(model(batch["x"]), batch["y"], reduction="none")


def gradient(model, batch, rows):
    part = {key: value[rows] for key, value in batch.items()}
    return torch.autograd.grad(losses(model, part).sum(), list(model.parameters()))


def norm(gradients):
    return torch.stack([g.norm() for g in gradients]).norm()


def expected_sum(model, batch, units, radius, max_norm):
    """A loop over units with ordinary autograd."""
    own = [p.detach().clone() for p in model.parameters()]
    total = [torch.zeros_like(p) for p in own]
    for unit in units.unique():
        rows = (units == unit).nonzero()[:, 0]
        first = gradient(model, batch, rows)
        with torch.no_grad():
            for p, g in zip(model.parameters(), first, strict=True):
                p += radius * g / norm(first)
        moved = gradient(model, batch, rows)
        with torch.no_grad():
            for p, value in zip(model.parameters(), own, strict=True):
                p.copy_(value)
        factor = (max_norm / norm(moved)).clamp(max=1)
        total = [t + factor * g for t, g in zip(total, moved, strict=True)]
    return dict(zip(dict(model.named_parameters()), total, strict=True))


@pytest.mark.parametrize("units", [[0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 1, 2]], ids=str)
@pytest.mark.parametrize("memory", [None, 1], ids=["at once", "one record at a time"])
def test_the_sum_is_that_of_a_loop_over_units(units, memory):
    model, batch = make()
    units = torch.tensor(units)
    found = clipped_grad(model, losses, batch, max_norm=0.8, units=units, ascent=0.05, memory=memory)
    for name, value in expected_sum(model, batch, units, 0.05, 0.8).items():
        torch.testing.assert_close(found.sum[name], value, rtol=1e-9, atol=1e-12)
    assert found.sensitivity("add-or-remove-one") == 0.8


def test_a_model_that_cannot_be_vectorised_is_moved_unit_by_unit():
    class Chooses(nn.Sequential):
        def forward(self, x):
            y = super().forward(x)
            return y if y.sum() > 0 else y * 2

    model, batch = make()
    model = Chooses(*model)
    units = torch.tensor([0, 0, 1, 1, 2, 2])
    with pytest.warns(UserWarning, match="cannot be vectorised"):
        found = clipped_grad(model, losses, batch, max_norm=0.8, ascent=0.05)
    for name, value in expected_sum(model, batch, torch.arange(6), 0.05, 0.8).items():
        torch.testing.assert_close(found.sum[name], value, rtol=1e-9, atol=1e-12)
    assert len(units) == 6


def test_no_ascent_is_the_ordinary_clipped_sum_bit_for_bit():
    model, batch = make()
    plain, none = (clipped_grad(model, losses, batch, max_norm=0.8, **o) for o in ({}, {"ascent": 0.0}))
    assert all(torch.equal(plain.sum[name], none.sum[name]) for name in plain.sum)


def test_the_step_form_meets_the_exact_objective_with_an_error_in_proportion_to_the_radius():
    """(gradient at the moved point - gradient) / r against the exact H u, for each record."""
    model, batch = make()
    params = list(model.parameters())
    for i in range(6):
        part = {key: value[i : i + 1] for key, value in batch.items()}
        first = torch.autograd.grad(losses(model, part).sum(), params, create_graph=True)
        exact = torch.cat([g.flatten() for g in torch.autograd.grad(norm(first), params)])
        plain = clipped_grad(model, losses, part, max_norm=1e9).sum
        errors = []
        for radius in RADII:
            moved = clipped_grad(model, losses, part, max_norm=1e9, ascent=radius).sum
            found = torch.cat([(moved[name] - plain[name]).flatten() for name in plain]) / radius
            errors.append(((found - exact).norm() / exact.norm()).item())
        for larger, smaller in itertools.pairwise(errors):
            assert smaller == pytest.approx(larger / 10, rel=0.5)


def test_a_record_is_not_moved_along_the_gradients_of_others():
    """What record 0 adds to the sum is the same whatever the other records are."""
    model, batch = make()

    def share_of_first(batch):
        weights = torch.tensor([1.0, 0, 0, 0, 0, 0])
        return clipped_grad(model, losses, batch, max_norm=0.8, weights=weights, ascent=0.1).sum

    other = {"x": torch.cat([batch["x"][:1], 7 * torch.randn(5, 1, 6, 6).double()]), "y": batch["y"]}
    first, second = share_of_first(batch), share_of_first(other)
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-9, atol=1e-12)


def test_both_passes_drop_the_same_activations():
    """Without a step the second pass repeats the first, random draws included: the radius goes to zero."""
    model, batch = make(dropout=0.5)
    torch.manual_seed(3)
    plain = clipped_grad(model.train(), losses, batch, max_norm=0.8)
    torch.manual_seed(3)
    moved = clipped_grad(model, losses, batch, max_norm=0.8, ascent=1e-9)
    for name in plain.sum:
        torch.testing.assert_close(plain.sum[name], moved.sum[name], rtol=1e-6, atol=1e-8)


def test_logistic_regression_has_its_closed_form():
    """l = log(1 + exp(-y w x)): the gradient of the norm is -y s (1 - s) |x| x with s = sigmoid(-y w x)."""
    torch.manual_seed(0)
    model = nn.Linear(5, 1, bias=False).double()
    x, y = torch.randn(4, 5).double(), torch.tensor([1.0, -1, 1, -1]).double()

    def logistic(model, batch):
        return nn.functional.softplus(-batch["y"] * model(batch["x"])[:, 0])

    s = torch.sigmoid(-y * (x @ model.weight.detach().T)[:, 0])
    expected = (-y * s * (1 - s) * x.norm(dim=1))[:, None] * x
    radius = 1e-5
    batch = {"x": x, "y": y}
    moved = clipped_grad(model, logistic, batch, max_norm=1e9, ascent=radius).sum["weight"]
    plain = clipped_grad(model, logistic, batch, max_norm=1e9).sum["weight"]
    torch.testing.assert_close((moved - plain) / radius, expected.sum(0)[None], rtol=1e-3, atol=1e-4)


class Packed(BatchAdapter):
    def size(self, batch):
        return len(batch["y"])

    def select(self, batch, rows):
        return {key: value[rows] for key, value in batch.items()}


def test_packed_batches_are_moved_too():
    model, batch = make()
    tree = clipped_grad(model, losses, batch, max_norm=0.8, ascent=0.05)
    packed = clipped_grad(model, losses, batch, max_norm=0.8, ascent=0.05, adapter=Packed())
    for name in tree.sum:
        torch.testing.assert_close(tree.sum[name], packed.sum[name], rtol=1e-9, atol=1e-12)


def test_a_layer_that_takes_no_weights_for_every_record_is_moved_unit_by_unit(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no batching rule")

    monkeypatch.setattr("reticent.training.engine.ascent.vmap", refuse)
    model, batch = make()
    found = clipped_grad(model, losses, batch, max_norm=0.8, ascent=0.05)
    for name, value in expected_sum(model, batch, torch.arange(6), 0.05, 0.8).items():
        torch.testing.assert_close(found.sum[name], value, rtol=1e-9, atol=1e-12)
