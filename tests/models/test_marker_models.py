"""Classifiers of markers and of images with markers, and a segmenter's encoder in a classifier."""

import pytest
import torch
from torch import nn

from reticent.errors import InputError
from reticent.models import (
    FUSIONS,
    FusionClassifier,
    MarkerClassifier,
    SmallUNet,
    UNetClassifier,
    build_model,
    fine_tune,
    transfer_encoder,
)
from reticent.training import check_independence, clipped_grad, forward

SIZES = {"markers": 3, "missing": 2}


def batch(n=4):
    torch.manual_seed(0)
    return {"image": torch.randn(n, 1, 16, 16), "markers": torch.randn(n, 3), "missing": torch.zeros(n, 2)}


def fused(fusion):
    torch.manual_seed(1)
    return build_model(
        "fusion", spatial_dims=2, in_channels=1, out_channels=2, image_size=(16, 16), vectors=SIZES,
        arguments={"fusion": fusion, "encoder_arguments": {"width": 8}},
    )  # fmt: skip


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_subjects_clipped_gradient_is_that_of_its_records_alone(fusion):
    model, inputs = fused(fusion), batch()
    check_independence(model, inputs, forward)
    target = torch.tensor([0, 1, 1, 0])

    def loss_fn(net, made):
        return nn.functional.cross_entropy(forward(net, made["inputs"]), made["target"], reduction="none")

    units = torch.tensor([0, 0, 1, 2])
    got = clipped_grad(model, loss_fn, {"inputs": inputs, "target": target}, max_norm=0.3, units=units)
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for unit in range(3):
        rows = units == unit
        made = {"inputs": {name: x[rows] for name, x in inputs.items()}, "target": target[rows]}
        own = torch.autograd.grad(loss_fn(model, made).sum(), list(model.parameters()), allow_unused=True)
        own = [torch.zeros_like(p) if g is None else g for g, p in zip(own, model.parameters(), strict=True)]
        norm = torch.sqrt(sum(g.square().sum() for g in own))
        for (name, _), g in zip(model.named_parameters(), own, strict=True):
            expected[name] += g * min(1.0, float(0.3 / norm))
    for name, value in expected.items():
        assert torch.allclose(got.sum[name].float(), value, atol=1e-5), name


def test_late_fusion_adds_the_logits_and_film_starts_as_the_image_alone():
    inputs = batch()
    moved = {**inputs, "markers": inputs["markers"] + 1}
    late, film = fused("late"), fused("film")
    shift = late(moved) - late(inputs)
    assert torch.allclose(shift, shift[:1].expand_as(shift), atol=1e-5)
    assert not torch.allclose(shift, torch.zeros_like(shift), atol=1e-3)
    assert torch.equal(film(moved), film(inputs))


def test_markers_alone_do_not_look_at_the_image_and_inputs_can_be_chosen():
    inputs = batch()
    model = MarkerClassifier(SIZES, 2, inputs=("missing",))
    assert torch.equal(model({**inputs, "image": inputs["image"] * 0}), model(inputs))
    assert torch.equal(model({**inputs, "markers": inputs["markers"] * 0}), model(inputs))
    with pytest.raises(InputError, match="the cohort has no 'age' beside its images"):
        MarkerClassifier(SIZES, 2, inputs=("age",))
    with pytest.raises(InputError, match="fusion = 'sum' is not known"):
        FusionClassifier(nn.Identity(), 3, SIZES, 2, fusion="sum")
    with pytest.raises(InputError, match="takes images alone: say --model fusion"):
        build_model("resnet9", spatial_dims=2, in_channels=1, out_channels=2, image_size=(16, 16), vectors=SIZES)


@pytest.mark.parametrize(("ndim", "levels"), [(2, 3), (2, 4), (3, 2)])
def test_a_segmenters_encoder_is_the_classifiers_tensor_by_tensor(ndim, levels):
    segmenter, classifier = SmallUNet(ndim, 1, 2, levels=levels), UNetClassifier(ndim, 1, 2, levels=levels)
    head = classifier.head.bias.clone()
    matched = transfer_encoder(segmenter, classifier)
    own, other = classifier.state_dict(), segmenter.state_dict()
    encoder = [name for name in own if not name.startswith("head")]
    assert matched == len(encoder) == 3 * (levels + 1)
    assert all(torch.equal(own[name], other[name]) for name in encoder)
    assert torch.equal(own["head.bias"], head)  # of the same length in both
    assert segmenter(torch.zeros(1, 1, *[16] * ndim)).shape == (1, 2, *[16] * ndim)


def test_weights_go_into_the_encoder_of_a_fusion_and_a_transfer_of_nothing_is_refused():
    segmenter = SmallUNet(2, 1, 2)
    fusion = FusionClassifier(UNetClassifier(2, 1, 8), 8, SIZES, 2)
    assert transfer_encoder(segmenter, fusion) == 12
    assert torch.equal(fusion.encoder.bottom[0][0].weight, segmenter.bottom[0][0].weight)
    renamed = {f"module.{name}": value for name, value in segmenter.state_dict().items()}
    with pytest.raises(InputError, match="no tensor fits UNetClassifier"):
        transfer_encoder(renamed, UNetClassifier(2, 1, 2))


def test_a_frozen_encoder_leaves_what_is_new_to_be_trained():
    fusion = FusionClassifier(UNetClassifier(2, 1, 8), 8, SIZES, 2, fusion="late")
    fine_tune(fusion, "last", batch(), 4)
    trained = {name.split(".")[0] for name, p in fusion.named_parameters() if p.requires_grad}
    assert trained == {"norm", "markers", "head"}
