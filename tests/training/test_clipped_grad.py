"""The clipped sum: against a loop over units with ordinary autograd, and the bound that privacy rests on."""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from reticent.errors import InputError
from reticent.models import SmallUNet, SmoothClassifier
from reticent.training import clipped_grad, strategy

TIGHT = {torch.float64: 1e-9, torch.float32: 1e-4}


class Tied(nn.Module):
    """One weight used twice."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
        self.two.weight = self.one.weight
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.two(torch.tanh(self.one(x))))


def frozen():
    model = nn.Sequential(nn.Linear(6, 5), nn.ELU(), nn.Linear(5, 2))
    model[0].weight.requires_grad_(False)
    return model


class Unused(nn.Linear):
    """Has a parameter that no output depends on."""

    def __init__(self):
        super().__init__(6, 2)
        self.spare = nn.Parameter(torch.ones(3))


class Scaled(nn.Linear):
    """Has a parameter without axes."""

    def __init__(self):
        super().__init__(6, 2)
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        return self.scale * super().forward(x)


MODELS = {
    "scalar parameter": (Scaled, (6,)),
    "conv-2d": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.SELU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 2)
        ),
        (2, 6, 6),
    ),
    "conv-3d": (
        lambda: nn.Sequential(nn.Conv3d(1, 4, 3), nn.GroupNorm(4, 4), nn.Tanh(), nn.Flatten(), nn.Linear(32, 2)),
        (1, 4, 4, 4),
    ),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(1, 2, 2, 2), nn.InstanceNorm2d(2), nn.Flatten(), nn.Linear(72, 2)),
        (1, 3, 3),
    ),
    "layer-norm": (lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 2)), (6,)),
    "tied": (Tied, (6,)),
    "frozen": (frozen, (6,)),
    "unused parameter": (Unused, (6,)),
    "default 2-D": (lambda: SmoothClassifier(2, 1, 2, (16, 16), width=8), (1, 16, 16)),
    "default 3-D": (lambda: SmoothClassifier(3, 1, 2, (8, 8, 8), width=8), (1, 8, 8, 8)),
}


def make(name, dtype=torch.float64):
    torch.manual_seed(1)
    build, shape = MODELS[name]
    return build().to(dtype), shape


def make_batch(size, shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "x": torch.randn(size, *shape, generator=generator, dtype=torch.float64).to(dtype),
        "y": torch.randint(2, (size,), generator=generator),
    }


def cross_entropy(model, batch):
    return F.cross_entropy(model(batch["x"]), batch["y"], reduction="none")


def unit_gradients(model, batch, units, loss_fn=cross_entropy, views=1):
    """The gradient of each unit by ordinary autograd."""
    params = {name: p for name, p in model.named_parameters() if p.requires_grad}
    units = units.repeat_interleave(views)
    for unit in range(int(units.max()) + 1 if len(units) else 0):
        rows = units == unit
        loss = loss_fn(model, {name: value[rows] for name, value in batch.items()}).sum() / views
        found = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
        yield (
            unit,
            {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(params.items(), found, strict=True)},
        )


def norm_of(tensors):
    return math.sqrt(sum(t.double().square().sum().item() for t in tensors))


def loop(model, batch, units, max_norm, weights=None, groups=None, automatic=False, views=1):
    """The definition: clip each unit's gradient (by groups of parameters), weigh it, add it up."""
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters() if p.requires_grad}
    for unit, gradient in unit_gradients(model, batch, units, views=views):
        bound = float(max_norm[unit]) if isinstance(max_norm, torch.Tensor) else max_norm
        for members, share in groups(gradient, bound) if groups else [(list(gradient), bound)]:
            norm = norm_of(gradient[name] for name in members)
            factor = share / (norm + 0.01) if automatic else min(1.0, share / norm) if norm else 1.0
            for name in members:
                total[name] += factor * (1.0 if weights is None else float(weights[unit])) * gradient[name]
    return total


def assert_same(found, expected, tolerance):
    assert found.keys() == expected.keys()
    scale = max(norm_of(expected.values()), 1e-12)
    assert norm_of(found[name] - expected[name] for name in expected) <= tolerance * scale


@pytest.mark.parametrize("dtype", TIGHT, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_loop_over_records_for_every_kind_of_layer(name, dtype):
    model, shape = make(name, dtype)
    batch = make_batch(7, shape, dtype)
    norms = [norm_of(g.values()) for _, g in unit_gradients(model, batch, torch.arange(7))]
    max_norm = sorted(norms)[3]  # about half are clipped
    result = clipped_grad(model, cross_entropy, batch, max_norm=max_norm)
    assert_same(result.sum, loop(model, batch, torch.arange(7), max_norm), TIGHT[dtype])
    torch.testing.assert_close(result.norms.double(), torch.tensor(norms, dtype=torch.float64), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(
        result.losses.double(), cross_entropy(model, batch).detach().double(), rtol=1e-5, atol=1e-6
    )
    assert (result.n_units, result.bound) == (7, pytest.approx(max_norm, rel=1e-15))


def test_it_is_the_loop_for_a_segmenter():
    torch.manual_seed(0)
    model = SmallUNet(2, 1, 2, width=4).double()
    batch = {"x": torch.randn(3, 1, 8, 8).double(), "y": torch.randint(2, (3, 8, 8))}

    def loss_fn(model, batch):
        return F.cross_entropy(model(batch["x"]), batch["y"], reduction="none").flatten(1).mean(1)

    expected = {}
    for _, gradient in unit_gradients(model, batch, torch.tensor([0, 0, 1]), loss_fn):
        factor = min(1.0, 0.1 / norm_of(gradient.values()))
        expected = {name: expected.get(name, 0) + factor * g for name, g in gradient.items()}
    found = clipped_grad(model, loss_fn, batch, max_norm=0.1, units=torch.tensor([0, 0, 1]))
    assert_same(found.sum, expected, 1e-9)


@pytest.mark.parametrize("size", [0, 1, 2, 7])
@pytest.mark.parametrize("views", [1, 2])
def test_any_number_of_records_and_views(size, views):
    model, shape = make("conv-2d")
    batch = make_batch(size * views, shape)
    result = clipped_grad(model, cross_entropy, batch, max_norm=0.5, views=views)
    assert_same(result.sum, loop(model, batch, torch.arange(size), 0.5, views=views), 1e-9)
    assert result.losses.shape == result.norms.shape == (size,)


UNITS = {
    "in order": [0, 0, 1, 2, 2, 2, 3],
    "scattered": [2, 0, 1, 0, 2, 3, 0],
    "with padding": [2, -1, 1, 0, 2, -1, 0],
    "one unit": [0] * 7,
    "a unit without records": [0, 0, 2, 2, 4, 4, 4],
    "padding only": [-1] * 7,
}


@pytest.mark.parametrize("memory", [None, 1, 5_000], ids=["one chunk", "one record a chunk", "few records a chunk"])
@pytest.mark.parametrize("units", UNITS.values(), ids=UNITS)
def test_all_records_of_a_unit_are_one_contribution_however_they_are_split_over_chunks(units, memory):
    model, shape = make("conv-2d")
    batch, units = make_batch(7, shape), torch.tensor(units)
    result = clipped_grad(model, cross_entropy, batch, max_norm=0.4, units=units, memory=memory)
    assert_same(result.sum, loop(model, batch, units, 0.4), 1e-9)
    assert result.n_units == int(units.max()) + 1


@pytest.mark.parametrize("memory", [None, 1])
def test_views_of_units_with_several_records_are_averaged_before_clipping(memory):
    model, shape = make("layer-norm")
    batch, units = make_batch(10, shape), torch.tensor([1, 0, -1, 1, 0])
    result = clipped_grad(model, cross_entropy, batch, max_norm=0.4, units=units, views=2, memory=memory)
    assert_same(result.sum, loop(model, batch, units, 0.4, views=2), 1e-9)


def per_layer(gradient, bound):
    layers = {}
    for name in gradient:
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    return [(names, bound / math.sqrt(len(layers))) for names in layers.values()]


def by_prefix(gradient, bound):
    return [([n for n in gradient if n.startswith("5.")], 0.2), ([n for n in gradient if not n.startswith("5.")], 0.3)]


POLICIES = {
    "flat": ("flat", {}),
    "per-layer": ("per-layer", {"groups": per_layer}),
    "automatic": ("automatic", {"automatic": True}),
    "by prefix": ({"": 0.3, "5.": 0.2}, {"groups": by_prefix}),
}


@pytest.mark.parametrize("memory", [None, 1])
@pytest.mark.parametrize(("clipping", "definition"), POLICIES.values(), ids=POLICIES)
def test_every_clipping_policy_with_weights_and_a_norm_for_each_unit(clipping, definition, memory):
    model, shape = make("conv-2d")
    batch, units = make_batch(7, shape), torch.tensor([0, 1, 1, 2, -1, 3, 3])
    weights, max_norm = torch.tensor([1.0, 0.5, 0.0, 0.25]), torch.tensor([0.1, 1.0, 0.3, 10.0], dtype=torch.float64)
    result = clipped_grad(
        model, cross_entropy, batch, max_norm=max_norm, units=units, weights=weights, clipping=clipping, memory=memory
    )
    assert_same(result.sum, loop(model, batch, units, max_norm, weights, **definition), 1e-9)
    expected = math.hypot(0.3, 0.2) if isinstance(clipping, dict) else 10.0
    assert result.bound == pytest.approx(expected, rel=1e-6)


def linear(size, scale):
    """A model whose gradient for the record x is scale * x."""
    model = nn.Linear(size, 1, bias=False)
    return model, lambda model, batch: scale * model(batch["x"])[:, 0]


@settings(max_examples=150, deadline=None)
@given(
    size=st.integers(1, 300),
    records=st.integers(1, 5),
    scale=st.floats(-30, 36).map(lambda exponent: 10.0**exponent),
    max_norm=st.floats(-6, 6).map(lambda exponent: 10.0**exponent),
    clipping=st.sampled_from(["flat", "per-layer", "automatic"]),
    memory=st.sampled_from([None, 1]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_patient_with_several_images_contributes_at_most_max_norm_once(
    size, records, scale, max_norm, clipping, memory, seed
):
    x = torch.randn(records, size, generator=torch.Generator().manual_seed(seed))
    model, loss_fn = linear(size, scale)
    result = clipped_grad(
        model,
        loss_fn,
        {"x": x},
        max_norm=max_norm,
        units=torch.zeros(records, dtype=torch.long),
        clipping=clipping,
        memory=memory,
    )
    assert norm_of(result.sum.values()) <= max_norm


def test_a_patient_with_k_images_moves_the_sum_no_more_than_a_patient_with_one():
    model, shape = make("conv-2d", torch.float32)
    others = make_batch(5, shape, torch.float32)
    for k in (1, 2, 10):
        own = make_batch(k, shape, torch.float32, seed=9)
        both = {name: torch.cat([others[name], own[name]]) for name in own}
        units = torch.tensor([0, 1, 2, 3, 4] + [5] * k)
        without = clipped_grad(model, cross_entropy, others, max_norm=0.25)
        with_patient = clipped_grad(model, cross_entropy, both, max_norm=0.25, units=units)
        moved = norm_of(with_patient.sum[name] - without.sum[name] for name in without.sum)
        assert moved == pytest.approx(0.25, rel=1e-4)  # the gradients are larger: clipped, and clipped once


def test_the_bound_holds_in_large_layers_where_float32_sums_lose_small_entries():
    x = torch.full((1, 1_000_000), 1e-4)
    x[0, 0] = 1.0
    model, loss_fn = linear(1_000_000, 1.0)
    assert norm_of(clipped_grad(model, loss_fn, {"x": x}, max_norm=0.5).sum.values()) <= 0.5


def test_the_bound_holds_where_the_clipping_factor_is_no_normal_number():
    x = torch.full((1, 4), 1e38)
    model, loss_fn = linear(4, 1.0)
    assert norm_of(clipped_grad(model, loss_fn, {"x": x}, max_norm=1e-5).sum.values()) <= 1e-5


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("clipping", ["flat", "per-layer", "automatic"])
@pytest.mark.parametrize("memory", [None, 1])
def test_a_unit_whose_gradient_is_not_finite_contributes_exactly_zero(poison, clipping, memory):
    model, shape = make("layer-norm")
    batch = make_batch(5, shape)
    batch["x"][3, 2] = poison
    units = torch.tensor([0, 1, 1, 2, 2])
    options = {"max_norm": 0.3, "clipping": clipping, "memory": memory}
    found = clipped_grad(model, cross_entropy, batch, units=units, **options)
    rest = {name: value[:3] for name, value in batch.items()}
    expected = clipped_grad(model, cross_entropy, rest, units=units[:3], **options)
    for name in expected.sum:
        torch.testing.assert_close(found.sum[name], expected.sum[name], rtol=1e-12, atol=1e-14)


def test_sensitivity_is_the_bound_for_adding_and_twice_the_bound_for_replacing_a_unit():
    model, shape = make("layer-norm")
    result = clipped_grad(model, cross_entropy, make_batch(2, shape), max_norm=0.7)
    assert result.sensitivity("add-or-remove-one") == 0.7
    assert result.sensitivity("replace-one") == 1.4


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was_also_after_an_error(fails):
    model, shape = make("conv-2d")
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def loss_fn(model, batch):
        losses = cross_entropy(model, batch)
        if fails:
            raise KeyError("the user's own mistake")
        return losses

    if fails:
        with pytest.raises(KeyError, match="own mistake"):
            clipped_grad(model, loss_fn, make_batch(3, shape), max_norm=1.0)
    else:
        clipped_grad(model, loss_fn, make_batch(3, shape), max_norm=1.0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(isinstance(p, nn.Parameter) and p.grad is None for p in model.parameters())
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._backward_hooks


class Packed:
    """Records of different lengths in one long tensor, with their lengths."""

    def size(self, batch):
        return len(batch["lengths"])

    def select(self, batch, rows):
        pieces = batch["values"].split(batch["lengths"].tolist())
        return {"values": torch.cat([pieces[row] for row in rows]), "lengths": batch["lengths"][rows]}


def test_an_adapter_reads_packed_batches():
    model = nn.Linear(1, 1).double()
    values = torch.randn(9, 1, dtype=torch.float64)
    batch = {"values": values, "lengths": torch.tensor([2, 4, 3])}

    def loss_fn(model, batch):
        pieces = model(batch["values"]).split(batch["lengths"].tolist())
        return torch.stack([piece.square().mean() for piece in pieces])

    units = torch.tensor([0, 1, 0])
    result = clipped_grad(model, loss_fn, batch, max_norm=0.1, units=units, adapter=Packed())
    expected = {}
    for rows in ([0, 2], [1]):
        loss = loss_fn(model, Packed().select(batch, torch.tensor(rows))).sum()
        gradient = dict(zip(("weight", "bias"), torch.autograd.grad(loss, list(model.parameters())), strict=True))
        factor = min(1.0, 0.1 / norm_of(gradient.values()))
        expected = {name: expected.get(name, 0) + factor * g for name, g in gradient.items()}
    assert_same(result.sum, expected, 1e-9)


class Branching(nn.Module):
    """Looks at values, which vmap cannot trace."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, x):
        return self.layer(x) * (2.0 if x.sum().item() > 1e9 else 1.0)


def test_a_module_that_cannot_be_vectorised_is_served_one_record_at_a_time_with_one_warning():
    model = Branching().double()
    batch, units = make_batch(5, (6,)), torch.tensor([0, 1, 0, 2, 1])
    with pytest.warns(UserWarning, match="Branching cannot be vectorised"):
        first = clipped_grad(model, cross_entropy, batch, max_norm=0.3, units=units)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = clipped_grad(model, cross_entropy, batch, max_norm=0.3, units=units)
    for result in (first, second):
        assert_same(result.sum, loop(model, batch, units, 0.3), 1e-9)


def test_a_loss_may_give_something_besides():
    model, shape = make("layer-norm")
    batch = make_batch(3, shape)
    plain = clipped_grad(model, cross_entropy, batch, max_norm=0.3)
    with_aux = clipped_grad(model, lambda m, b: (cross_entropy(m, b), {"anything": 1}), batch, max_norm=0.3)
    assert_same(with_aux.sum, plain.sum, 1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clipping": "adaptive"}, "is not known"),
        ({"clipping": {"3.": 1.0}}, "names no group for parameter '0.weight'"),
        ({"views": 2}, "not a multiple of views=2"),
        ({"units": torch.tensor([0, 1])}, "units has 2 entries for 3 records"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    model, shape = make("layer-norm")
    with pytest.raises(InputError, match=message):
        clipped_grad(model, cross_entropy, make_batch(3, shape), max_norm=1.0, **options)


def test_a_model_without_trainable_parameters_is_refused():
    model = nn.Linear(6, 2).requires_grad_(False).double()
    with pytest.raises(InputError, match="no trainable parameter"):
        clipped_grad(model, cross_entropy, make_batch(3, (6,)), max_norm=1.0)


@pytest.mark.parametrize("way", ["loop", "grouped", "windows", "winograd"])
@pytest.mark.parametrize("units", UNITS.values(), ids=UNITS)
def test_units_spread_over_threads_give_the_same_sum(way, units):
    model, shape = make("conv-3d")
    batch, units, before = make_batch(7, shape), torch.tensor(units), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with strategy(way):
            result = clipped_grad(model, cross_entropy, batch, max_norm=0.4, units=units)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert_same(result.sum, loop(model, batch, units, 0.4), 1e-9)
