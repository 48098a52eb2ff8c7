"""The acceptance checks of 2.5-D attention: what slices weigh, what they give to each logit, and where they were."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad, vmap

from reticent.data import open_cohort
from reticent.errors import InputError
from reticent.models import SliceClassifier, build_model
from reticent.records import make_study
from reticent.training import clipped_grad, make_plan, train
from reticent.training.frozen_features import feature_classifier

POOLS = ("attention", "mean", "max")


def encoder(features=8):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(16, features),
    )  # fmt: skip


def network(pool="attention", axes=(0, 1, 2), classes=3):
    return SliceClassifier(encoder(), classes, 8, axes, pool, 2).double()


def volumes(n=2, shape=(4, 5, 6)):
    return torch.randn(n, 1, *shape, dtype=torch.float64)


@pytest.mark.parametrize("pool", POOLS)
def test_weights_are_shares_and_every_logit_is_split_over_the_slices(pool):
    out = network(pool).explain(volumes())
    assert out.weights.shape == (2, 4 + 5 + 6)
    assert (out.weights >= 0).all()
    torch.testing.assert_close(out.weights.sum(1), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(out.constant + out.contributions.sum(1), out.logits)


def test_it_is_the_library_s_attention():
    model, reference = network(), nn.MultiheadAttention(8, 2, batch_first=True).double()
    pool = model.pool
    with torch.no_grad():
        reference.in_proj_weight.copy_(torch.cat([layer.weight for layer in (pool.query, pool.key, pool.value)]))
        reference.in_proj_bias.copy_(torch.cat([layer.bias for layer in (pool.query, pool.key, pool.value)]))
        reference.out_proj.weight.copy_(pool.out.weight)
        features = torch.randn(3, 7, 8, dtype=torch.float64)
        expected, weights = reference(features.mean(1, keepdim=True), features, features)
        parts, found = pool(features, None)
    torch.testing.assert_close(parts.sum(1), expected[:, 0])
    torch.testing.assert_close(found, weights[:, 0])


@pytest.mark.parametrize("axes", [(0,), (2, 0), (0, 1, 2)])
def test_a_marked_slice_is_found_where_it_was(axes):
    brightness = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 8))
    model = SliceClassifier(brightness, 2, 8, axes, "mean").double()
    dark, start = torch.zeros(1, 1, 4, 5, 6, dtype=torch.float64), 0
    for axis in axes:
        marked = dark.movedim(2 + axis, 0).clone()
        marked[1] = 5.0
        out = model.explain(marked.movedim(0, 2 + axis))
        change = (out.contributions - model.explain(dark).contributions)[0].abs().sum(1)
        assert change.argmax() == start + 1
        start += dark.shape[2 + axis]


@pytest.mark.parametrize("pool", POOLS)
@given(seed=st.integers(0, 2**31), axis=st.integers(0, 2))
@settings(max_examples=10, deadline=None)
def test_the_order_of_slices_does_not_matter_along_their_axis(pool, seed, axis):
    torch.manual_seed(seed)
    model, volume = network(pool, (axis,)), volumes()
    order = torch.randperm(volume.shape[2 + axis])
    out, moved = model.explain(volume), model.explain(volume.index_select(2 + axis, order))
    torch.testing.assert_close(moved.logits, out.logits)
    torch.testing.assert_close(moved.weights, out.weights[:, order])
    torch.testing.assert_close(moved.contributions, out.contributions[:, order])


@pytest.mark.parametrize("pool", POOLS)
def test_padding_that_is_masked_changes_nothing(pool):
    model, volume = network(pool, (0,)), volumes()
    padded = torch.cat([volume, torch.zeros_like(volume[:, :, :3])], 2)
    mask = torch.arange(7).expand(2, -1) < 4
    out, longer = model.explain(volume), model.explain(padded, mask)
    torch.testing.assert_close(longer.logits, out.logits)
    torch.testing.assert_close(longer.weights[:, :4], out.weights)
    assert not longer.weights[:, 4:].any()
    assert not longer.contributions[:, 4:].any()


def padded(volumes, depth):
    """Volumes (1, 1, D, 5, 6) of different depth in the middle of as many slices, by name with their padding."""
    images, padding = [], []
    for volume in volumes:
        before = (depth - volume.shape[2]) // 2
        after = depth - volume.shape[2] - before
        images.append(nn.functional.pad(volume, (0, 0, 0, 0, before, after), value=float(volume.min())))
        there = torch.ones(depth, dtype=torch.float64)
        there[before : depth - after] = 0
        padding.append(torch.cat([there, torch.zeros(11, dtype=torch.float64)]))
    return {"image": torch.cat(images), "padding": torch.stack(padding)}


@pytest.mark.parametrize("pool", POOLS)
def test_volumes_of_different_depth_together_are_each_alone_in_logits_and_in_the_clipped_sum(pool):
    """Along the padded axis a longer canvas changes nothing either; along others padding is part of their slices."""
    model, labels = network(pool, (2, 0), classes=2), torch.tensor([0, 1, 1, 0])
    alone = [volumes(1, (depth, 5, 6)) for depth in (1, 4, 7, 9)]

    def losses(model, batch):
        return nn.functional.cross_entropy(model(batch["x"]), batch["y"], reduction="none")

    by_name = padded(alone, 9)
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for k in range(4):
        own = {"x": {name: x[k : k + 1] for name, x in by_name.items()}, "y": labels[k : k + 1]}
        gradients = torch.autograd.grad(losses(model, own).sum(), list(model.parameters()))
        factor = min(1.0, 0.1 / float(sum(g.square().sum() for g in gradients).sqrt()))
        for name, g in zip(expected, gradients, strict=True):
            expected[name] += factor * g
    found = clipped_grad(model, losses, {"x": by_name, "y": labels}, max_norm=0.1)
    for name, value in expected.items():
        torch.testing.assert_close(found.sum[name].to(value), value, rtol=1e-8, atol=1e-10)

    model = network(pool, (0,), classes=2)
    each = torch.cat([model(volume) for volume in alone])
    sums = [clipped_grad(model, losses, {"x": padded(alone, d), "y": labels}, max_norm=0.1).sum for d in (9, 14)]
    for depth in (9, 14):
        torch.testing.assert_close(model(padded(alone, depth)), each, rtol=0, atol=1e-9)
    for name, value in sums[0].items():
        torch.testing.assert_close(sums[1][name], value, rtol=1e-6, atol=1e-10)


def test_padding_changes_nothing_in_front_of_another_head_either():
    """As the encoder of a fusion with markers, and as the frozen features of private activations."""
    sizes = {"markers": 2, "missing": 1, "padding": 25}
    fusion = build_model(
        "fusion", spatial_dims=3, in_channels=1, out_channels=2, image_size=(14, 5, 6), vectors=sizes,
        arguments={"encoder": "slices", "encoder_arguments": {"axes": [0]}},
    ).double()  # fmt: skip
    beside = {"markers": torch.randn(1, 2).double(), "missing": torch.zeros(1, 1).double()}
    features = feature_classifier(network(axes=(0,)), 32, 1.0).double().features
    volume = volumes(1)
    for model, vectors in ((fusion, beside), (features, {})):
        alone = model({**padded([volume], 4), **vectors})
        torch.testing.assert_close(model({**padded([volume], 14), **vectors}), alone, rtol=0, atol=1e-9)
    torch.testing.assert_close(features(volume), features(padded([volume], 14)), rtol=0, atol=1e-9)


def test_made_up_padding_never_leaves_a_volume_without_slices():
    model, volume = network(axes=(0,)), volumes()
    nothing, all_of_it = (torch.full((2, 15), value, dtype=torch.float64) for value in (0.0, 1.0))
    for padding in (nothing, all_of_it):
        torch.testing.assert_close(model({"image": volume, "padding": padding}), model(volume))


def test_attention_without_a_query_is_the_mean_and_equal_slices_weigh_the_same():
    model, volume = network("attention", (0,)), volumes()
    same = model.explain(volume[:, :, :1].expand(-1, -1, 4, -1, -1))
    torch.testing.assert_close(same.weights, torch.full_like(same.weights, 1 / 4))
    for parameter in model.pool.query.parameters():
        nn.init.zeros_(parameter)
    features = model._features(volume, 0)
    through = model.pool.out(model.pool.value(features.mean(1)))
    torch.testing.assert_close(model(volume), model.head(through))


@pytest.mark.parametrize("pool", POOLS)
def test_a_volume_is_one_record_however_many_slices_it_has(pool):
    model, batch = network(pool, classes=2), {"x": volumes(5), "y": torch.tensor([0, 1, 1, 0, 1])}

    def losses(model, batch):
        return nn.functional.cross_entropy(model(batch["x"]), batch["y"], reduction="none")

    def alone(parameters, x, label):
        logits = functional_call(model, parameters, (x[None],))
        return nn.functional.cross_entropy(logits, label[None])

    made = vmap(grad(alone), (None, 0, 0))(dict(model.named_parameters()), batch["x"], batch["y"])
    norms = sum(value.flatten(1).square().sum(1) for value in made.values()).sqrt()
    found = clipped_grad(model, losses, batch, max_norm=0.1)
    torch.testing.assert_close(found.norms.to(norms), norms)
    for name, value in made.items():
        factors = (0.1 / norms).clamp(max=1)
        torch.testing.assert_close(found.sum[name], torch.tensordot(factors, value, 1), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"axes": [0, 0]}, "each once"),
        ({"axes": [3]}, "name some of 0, 1 and 2"),
        ({"pool": "median"}, "say attention, mean or max"),
        ({"features": 10, "heads": 4}, "no multiple of heads"),
        ({"encoder": "nothing"}, "model 'nothing'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        build_model("slices", spatial_dims=3, in_channels=1, out_channels=2, image_size=(8, 8, 8), arguments=arguments)


def test_images_are_no_volumes():
    with pytest.raises(InputError, match="reads volumes"):
        build_model("slices", spatial_dims=2, in_channels=1, out_channels=2, image_size=(8, 8))


def bars(n, generator):
    """Noise with a vertical or horizontal bar, the class, in one slice along the first axis."""
    x = 0.5 * torch.randn(n, 1, 16, 16, 16, generator=generator)
    label, place, row, column = (torch.randint(0, high, (n,), generator=generator) for high in (2, 16, 12, 12))
    for k in range(n):
        bar = torch.zeros(4, 4)
        bar[1:3] = 1.0
        x[k, 0, place[k], row[k] : row[k] + 4, column[k] : column[k] + 4] += 3 * (bar if label[k] else bar.T)
    return x, label, place


def test_attention_finds_the_slice_that_decides():
    """Seeded: with 32 features and 4 heads the paper's dossier reports an accuracy of 1 and 100 % of slices found."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    (x, y, _), (held, labels, places) = bars(400, generator), bars(100, generator)
    convolutions = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
    )  # fmt: skip
    model = SliceClassifier(convolutions, 2, 32, (0,), "attention", 4)
    optimiser = torch.optim.NAdam(model.parameters(), 5e-3)
    for _ in range(8):
        for batch in torch.randperm(400, generator=generator).split(50):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimiser.step()
    with torch.no_grad():
        out = model.explain(held)
        assert (out.logits.argmax(1) == labels).double().mean() > 0.95
        top = out.weights.argmax(1)
        assert (top == places).double().mean() > 0.95
        held[torch.arange(100), 0, top] = 0.5 * torch.randn(100, 16, 16, generator=generator)
        assert (model(held).argmax(1) == labels).double().mean() < 0.7


@pytest.mark.slow
def test_a_gland_of_adrenalmnist3d_is_told_from_scratch(tmp_path):
    """Acceptance of the paper's dossier: test AUROC above 0.78 in two CPU-minutes (published ones: 0.72 to 0.84)."""
    archive = Path(__file__).resolve().parents[3] / "shared" / "data" / "medmnist" / "adrenalmnist3d.npz"
    if not archive.is_file():
        pytest.skip("the data bundle is absent (medmnist)")
    study = make_study(
        {
            "cohort": {"uri": str(archive), "unit": "record"},
            "privacy": {"non_private": True, "steps": 150, "sampling_rate": 0.08},
            "model": {"name": "slices"},
            "training": {"learning_rate": 0.002},
        }
    )
    cohort = open_cohort(str(archive), unit="record")
    torch.manual_seed(0)
    folder = train(study, cohort, tmp_path / "run", ledger=None, plan=make_plan(study), progress=lambda *_: None)
    assert folder.metrics().splits[-1].metrics["auroc"].value > 0.78


def test_an_encoder_whose_maps_cannot_be_shown_is_refused_before_anything_is_trained():
    with pytest.raises(InputError, match=r"encoder 'torch.nn:Linear' has no convolution"):
        build_model(
            "slices", spatial_dims=3, in_channels=1, out_channels=2, image_size=(8, 8, 8),
            arguments={"encoder": "torch.nn:Linear", "encoder_arguments": {"in_features": 8, "out_features": 64}},
        )  # fmt: skip
