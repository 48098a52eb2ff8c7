"""What one unit can do to the sum, at its worst: cancelling products, autocast, writes behind autograd's back."""

import pytest
import torch
from torch import nn
from unit_loop import assert_is_the_loop, norm_of

from reticent.errors import InputError
from reticent.training import check_independence, clipped_grad, strategy

WAYS = ["rule", "ghost", "bmm", "ghost+recompute", "bmm+recompute", "loop+recompute"]


def share(model, loss_fn, batch, max_norm=1.0):
    """Norm of the sum over the batch's only unit."""
    units = torch.zeros(len(batch["x"]), dtype=torch.long)
    return norm_of(clipped_grad(model, loss_fn, batch, max_norm=max_norm, units=units).sum.values())


def slopes(model, batch):
    """Losses whose output gradients are the batch's `g`."""
    return (model(batch["x"]) * batch["g"]).flatten(1).sum(1)


def cancelling(kind, size, dtype):
    """A layer, and a record whose positions' products cancel but for `size` times rounding."""
    torch.manual_seed(0)
    first = torch.randn(64, dtype=dtype)
    x = torch.stack([first, first * (1 + 1e-6)])
    g = torch.ones(2, 32, dtype=dtype) * torch.tensor([[size], [-size]], dtype=dtype)
    if kind == "linear":
        return nn.Linear(64, 32, bias=False, dtype=dtype), {"x": x[None], "g": g[None]}
    return nn.Conv1d(64, 32, 1, bias=False, dtype=dtype), {"x": x.T[None], "g": g.T[None]}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [1e3, 1e7, 1e9])
@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_a_unit_whose_products_cancel_contributes_no_more_than_the_bound(kind, size, way, dtype):
    model, batch = cancelling(kind, size, dtype)
    with strategy(way):
        assert share(model, slopes, batch) <= 1.0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [500, 2_000, 20_000])
def test_long_inner_products_do_not_understate_a_norm(k, seed):
    torch.manual_seed(seed)
    u = torch.rand(k) + 0.5
    x = torch.stack([u, u + 0.15 * torch.randn(k)], 1)
    g = torch.tensor([1.0, -1.0]).expand(8, 2)
    model = nn.Conv1d(k, 8, 1, bias=False)
    with strategy("ghost"):
        assert share(model, slopes, {"x": x[None], "g": g[None]}) <= 1.0


def test_equal_tokens_that_cancel_leave_the_sum_of_the_other_units_alone():
    torch.manual_seed(0)
    model = nn.Embedding(20, 4)
    x, g = torch.randint(20, (12, 2)), torch.randn(12, 2, 4)
    x[11], g[11, 0], g[11, 1] = 5, 1e9, -1e9
    whole = clipped_grad(model, slopes, {"x": x, "g": g}, max_norm=1.0).sum["weight"]
    rest = clipped_grad(model, slopes, {"x": x[:11], "g": g[:11]}, max_norm=1.0).sum["weight"]
    torch.testing.assert_close(whole, rest, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "layer", [nn.Linear(64, 32), nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 32))]
)
def test_the_bound_holds_where_the_caller_has_autocast_on(layer, way):
    torch.manual_seed(0)
    g = torch.randn(1, 4, 32)
    batch = {"x": torch.rand(1, 4, 64), "g": g - 0.9 * g.mean(1, keepdim=True)}
    with strategy(way), torch.autocast("cpu", torch.bfloat16):
        assert share(layer, slopes, batch, max_norm=1e-3) <= 1e-3


class Writes(nn.Module):
    """Keeps what it saw by one of the ways that autograd does not notice."""

    def __init__(self, write):
        super().__init__()
        self.layer, self.write = nn.Linear(4, 2), write
        self.register_buffer("seen", torch.zeros(4))
        self.scale = 1.0

    def forward(self, x):
        self.write(self, x.detach())
        return self.layer(x) / self.scale


def into_python(module, x):
    module.scale = 0.5 * module.scale + 0.5 * x.square().mean().item()


WRITES = {
    "data": lambda m, x: m.seen.data.add_(x.mean(0)),
    "numpy": lambda m, x: m.seen.numpy().__setitem__(slice(None), x.mean(0).numpy()),
    "a weight": lambda m, x: m.layer.weight.data.add_(x.mean() * 0.1),
    "a Python number": into_python,
}


@pytest.mark.parametrize("records", [1, 5])
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_what_a_forward_pass_keeps_of_records_is_refused_and_taken_back(write, records):
    model = Writes(write)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    if write is not into_python:
        with pytest.raises(InputError, match="is written during the forward pass"):
            clipped_grad(model, lambda m, b: m(b).sum(1), torch.randn(records, 4), max_norm=1.0)
    with pytest.raises(InputError, match=r"is written during|keeps a state"):
        check_independence(model, torch.randn(5, 4))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


class InAList(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4, dtype=torch.float64)
        self.again = [self.layer.weight]

    def forward(self, x):
        return nn.functional.linear(self.layer(x).tanh(), self.again[0])


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4, dtype=torch.float64))

    def forward(self, x):
        weight = self.weight.clone()
        y = nn.functional.linear(x, weight)
        weight.mul_(3)
        return nn.functional.linear(y, weight)


class CopiedIntoAConstant(InPlace):
    def forward(self, x):
        return nn.functional.linear(x, torch.zeros(4, 4, dtype=torch.float64).copy_(self.weight) * 2)


@pytest.mark.parametrize("build", [InAList, InPlace, CopiedIntoAConstant])
@pytest.mark.filterwarnings("ignore:.*cannot be vectorised")
def test_parameters_that_move_about_unseen_are_counted(build):
    torch.manual_seed(0)
    units = torch.tensor([0, 1, 0, 2, -1])
    assert_is_the_loop(build(), {"x": torch.randn(5, 4, dtype=torch.float64)}, units, 1e-9)


def test_padding_rows_are_not_looked_at():
    x, units = torch.tensor([[999], [1], [2], [0]]), torch.tensor([-1, 0, 1, 2])
    found = clipped_grad(nn.Embedding(5, 3), lambda m, b: m(b).sum((1, 2)), x, max_norm=1.0, units=units)
    assert found.n_units == 3


@pytest.mark.parametrize("max_norm", [1e-2, 3.3e-3, 1e-3])
def test_the_bound_holds_where_a_clipped_factor_alone_would_be_subnormal(max_norm):
    model = nn.Linear(1000, 1000, bias=False)
    batch = {"x": torch.full((1, 1000), 3e38), "g": torch.full((1, 1000), 1e-10)}
    nn.init.zeros_(model.weight)
    assert share(model, slopes, batch, max_norm=max_norm) <= max_norm
