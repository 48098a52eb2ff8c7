"""Norms, policies and physical batches on layers with native rules."""

import copy
import math

import pytest
import torch
from layer_cases import RULES
from layer_uses import USES, Forward
from torch import nn
from torch.func import functional_call, grad, vmap
from unit_loop import norm_of, relative_error, unit_gradients, weighted_outputs

from reticent.training import clipped_grad
from reticent.training.engine import strategy

CASES = RULES | USES


def first_of(name, count, dtype=torch.float64):
    """The case with the first value of every option, and a batch for it."""
    torch.manual_seed(0)
    case = CASES[name]
    model, shape = case.build(**{option: values[0] for option, values in case.options.items()})
    dtype = torch.complex128 if case.dtypes[0] == "complex128" else dtype
    x = torch.randint(case.tokens, (count, *shape)) if case.tokens else torch.randn(count, *shape, dtype=dtype)
    return model.to(dtype), x


VMAPPED = (
    "linear", "convolution", "transposed convolution", "group norm", "layer norm", "embedding", "tied linear",
    "convolution twice", "norm twice", "weight standardisation", "slices of a volume",
)  # fmt: skip


@pytest.mark.parametrize("way", ["rule", "ghost", "bmm"])
@pytest.mark.parametrize("name", VMAPPED)
def test_norms_are_those_of_per_sample_gradients_by_torch_func(name, way):
    model, x = first_of(name, 6)
    copied = copy.deepcopy(model)  # functional_call leaves traces on modules that have two names
    trained = {key: p.detach() for key, p in model.named_parameters()}

    def loss(values, x):
        return weighted_outputs(lambda x: functional_call(copied, values, (x,)), {"x": x[None]})[0]

    gradients = vmap(grad(loss), in_dims=(None, 0))(trained, x)
    norms = sum(g.flatten(1).square().sum(1) for g in gradients.values()).sqrt()
    with strategy(way):
        found = clipped_grad(model, weighted_outputs, {"x": x}, max_norm=1.0)
    torch.testing.assert_close(found.norms.double(), norms, rtol=1e-6, atol=0)


def parts():
    """Convolution, norm, attention, recurrence, an own parameter and a weight used twice in one network."""

    def forward(m, x):
        y = m.norm(m.conv(x)).tanh().transpose(1, 2) + m.position
        y = m.attention(y, y, y)[0]
        return m.again(m.again(m.lstm(y)[0]).tanh())

    layers = {
        "conv": nn.Conv1d(2, 4, 3), "norm": nn.GroupNorm(2, 4), "position": nn.Parameter(torch.randn(4)),
        "attention": nn.MultiheadAttention(4, 2, batch_first=True), "lstm": nn.LSTM(4, 4, batch_first=True),
        "again": nn.Linear(4, 4),
    }  # fmt: skip
    return Forward(forward, **layers)


def flat(gradient, bound):
    return [(list(gradient), bound)]


def per_layer(gradient, bound):
    layers = {}
    for name in gradient:
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    return [(names, bound / math.sqrt(len(layers))) for names in layers.values()]


def by_prefix(gradient, bound):
    lstm = [name for name in gradient if name.startswith("lstm")]
    return [(lstm, 0.002), ([name for name in gradient if name not in lstm], 0.003)]


POLICIES = {
    "flat": ("flat", flat, 0.0),
    "per-layer": ("per-layer", per_layer, 0.0),
    "automatic": ("automatic", flat, 0.01),
    "by prefix": ({"": 0.003, "lstm": 0.002}, by_prefix, 0.0),
}


@pytest.mark.parametrize("memory", [None, 1])
@pytest.mark.parametrize("way", ["rule", "ghost", "bmm+recompute"])
@pytest.mark.parametrize(("clipping", "groups", "stabiliser"), POLICIES.values(), ids=POLICIES)
def test_policies_weights_and_a_norm_for_each_unit_hold_in_native_layers(clipping, groups, stabiliser, way, memory):
    torch.manual_seed(0)
    model = parts().double()
    batch, units = {"x": torch.randn(7, 2, 6, dtype=torch.float64)}, torch.tensor([0, 1, 1, 2, -1, 3, 3])
    weights, max_norm = torch.tensor([1.0, 0.5, 0.0, 0.25]), torch.tensor([0.01, 1.0, 0.3, 10.0], dtype=torch.float64)
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for unit, gradient in enumerate(unit_gradients(model, weighted_outputs, batch, units)):
        for names, bound in groups(gradient, float(max_norm[unit])):
            norm = norm_of(gradient[name] for name in names)
            factor = bound / (norm + stabiliser) if stabiliser else min(1.0, bound / norm)
            for name in names:
                expected[name] += float(weights[unit]) * factor * gradient[name]
    with strategy(way):
        found = clipped_grad(
            model, weighted_outputs, batch, max_norm=max_norm, units=units, weights=weights, clipping=clipping,
            memory=memory,
        )  # fmt: skip
    assert relative_error(found.sum, expected) <= 1e-9


@pytest.mark.parametrize("name", [name for name in CASES if name != "compiled"])
def test_the_sum_does_not_depend_on_the_physical_batch(name):
    model, x = first_of(name, 8)
    units = torch.tensor([0, 3, 1, 1, 2, 0, 0, 4])
    once, *others = (
        clipped_grad(model, weighted_outputs, {"x": x}, max_norm=0.3, units=units, memory=memory)
        for memory in (None, 1, 6_000)
    )
    for other in others:
        assert relative_error(other.sum, once.sum) <= 1e-12
        torch.testing.assert_close(other.norms, once.norms, rtol=1e-6, atol=0)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize("name", [name for name in CASES if name != "compiled"])
def test_a_unit_that_is_not_finite_contributes_exactly_zero_through_every_rule(name, poison):
    model, x = first_of(name, 5)
    batch, units = {"x": x, "scale": torch.ones(5, dtype=torch.float64)}, torch.tensor([0, 1, 2, 1, 2])
    batch["scale"][3] = poison
    if not CASES[name].tokens:
        x[3] = poison

    def loss_fn(model, batch):
        return weighted_outputs(model, batch) * batch["scale"]

    for way in ("rule", "ghost", "bmm+recompute"):
        with strategy(way):
            found = clipped_grad(model, loss_fn, batch, max_norm=0.3, units=units)
            rest = {key: value[units != 1] for key, value in batch.items()}
            expected = clipped_grad(model, loss_fn, rest, max_norm=0.3, units=torch.tensor([0, 1, 1]))
            alone = clipped_grad(model, loss_fn, batch, max_norm=0.3, units=torch.tensor([-1, 0, -1, 0, -1]))
        assert relative_error(found.sum, expected.sum) <= 1e-12
        assert all((value == 0).all() for value in alone.sum.values())


NARROW = {
    "linear": (lambda: nn.Linear(8, 4, bias=False), (8,)),
    "convolution": (lambda: nn.Conv1d(8, 4, 1, bias=False), (8, 1)),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("build", "shape"), NARROW.values(), ids=NARROW)
def test_in_16_bits_gradients_and_their_norms_are_float32(build, shape, dtype):
    """Every entry of the gradient is a product that 16 bits would round down by up to half of their last place."""
    model, value = build().to(dtype), 1 + (31 / 512 if dtype == torch.float16 else 9 / 128)
    slope = 1 + (33 / 1024 if dtype == torch.float16 else 7 / 128)
    x = torch.full((2, *shape), value, dtype=dtype)
    with strategy("bmm"):
        found = clipped_grad(model, lambda m, b: slope * m(b["x"]).float().flatten(1).sum(1), {"x": x}, max_norm=1e6)
    norms = torch.full((2,), value * slope * 32**0.5)
    torch.testing.assert_close(found.norms, norms, rtol=1e-6, atol=0)
    total = found.sum["weight"].flatten()
    torch.testing.assert_close(total, torch.full_like(total, 2 * value * slope), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_with_dropout_every_unit_stays_within_its_norm(dtype):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Dropout2d(0.5), nn.GroupNorm(2, 4), nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 2)
    ).to(dtype)  # fmt: skip
    for _ in range(20):
        x = torch.randn(3, 1, 6, 6).to(dtype)
        found = clipped_grad(model, weighted_outputs, {"x": x}, max_norm=1e-3, units=torch.tensor([0, 0, 0]))
        assert float(found.norms[0]) > 1e-3
        assert 0.9e-3 <= norm_of(found.sum.values()) <= 1e-3


def test_dropout_takes_other_positions_for_every_record():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5), nn.Linear(64, 1)), torch.ones(8, 4)
    norms = clipped_grad(model, weighted_outputs, {"x": x}, max_norm=1.0).norms
    assert len(norms.unique()) == 8
