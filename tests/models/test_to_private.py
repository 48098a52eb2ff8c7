"""Conversion for private training: what couples or stores records goes, weights stay, the original is not touched."""

import pytest
import torch
from monai.networks.layers.vector_quantizer import EMAQuantizer
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from monai_networks import NETWORKS
from reticent.errors import InputError
from reticent.models import to_private
from reticent.training import check_independence

BATCH_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d, "across processes": nn.SyncBatchNorm}
INSTANCE_NORMS = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def with_own_affine(norm):
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    return norm


@pytest.mark.parametrize("kind", BATCH_NORMS.values(), ids=BATCH_NORMS)
def test_batch_norm_becomes_group_norm_with_its_scale_and_shift(kind):
    norm = with_own_affine(kind(12, eps=1e-3)).double()
    norm.bias.requires_grad_(False)
    converted = to_private(nn.Sequential(norm))[0]
    assert isinstance(converted, nn.GroupNorm)
    assert (converted.num_channels, converted.eps) == (12, 1e-3)
    assert torch.equal(converted.weight, norm.weight)
    assert torch.equal(converted.bias, norm.bias)
    assert converted.weight.requires_grad
    assert not converted.bias.requires_grad


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (4, 1), (6, 1), (7, 1), (8, 2), (12, 3), (48, 12), (256, 16)])
def test_there_are_up_to_16_groups_of_4_or_more_channels(channels, groups):
    assert to_private(nn.BatchNorm2d(channels)).num_groups == groups


def test_batch_norm_without_scale_has_none_afterwards():
    assert to_private(nn.BatchNorm2d(4, affine=False)).weight is None


@pytest.mark.parametrize(("d", "kind"), INSTANCE_NORMS.items())
def test_instance_norm_loses_its_running_statistics_alone(d, kind):
    norm = with_own_affine(kind(3, affine=True, track_running_stats=True))
    x = torch.randn(2, 3, *(4,) * d)
    expected = norm(x)
    converted = to_private(norm)
    assert type(converted) is kind
    assert dict(converted.named_buffers()) == {}
    torch.testing.assert_close(converted(x), expected)
    assert norm.track_running_stats


def test_embeddings_neither_rewrite_nor_reweigh_what_is_looked_up():
    source = nn.Embedding(5, 3, max_norm=0.1, scale_grad_by_freq=True)
    converted = to_private(nn.Sequential(source))[0]
    assert (converted.max_norm, converted.scale_grad_by_freq) == (None, False)
    assert torch.equal(converted.weight, source.weight)
    assert (source.max_norm, source.scale_grad_by_freq) == (0.1, True)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_kept(training):
    model = nn.Sequential(nn.BatchNorm2d(4), nn.Sequential(nn.InstanceNorm2d(4, track_running_stats=True)))
    assert all(module.training is training for module in to_private(model.train(training)).modules())


def test_the_original_is_not_changed():
    model = NETWORKS["ResNet"].build(2)
    classes = [type(module) for module in model.modules()]
    parameters = list(model.parameters())
    state = {name: value.clone() for name, value in model.state_dict().items()}
    converted = to_private(model)
    assert [type(module) for module in model.modules()] == classes
    assert all(p is q for p, q in zip(model.parameters(), parameters, strict=True))
    with torch.no_grad():
        for parameter in converted.parameters():
            parameter.zero_()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_layer_used_in_two_places_is_one_layer_afterwards():
    norm = nn.BatchNorm2d(4)
    converted = to_private(nn.Sequential(norm, nn.ReLU(), nn.Sequential(norm)))
    assert isinstance(converted[0], nn.GroupNorm)
    assert converted[2][0] is converted[0]


def test_layers_that_need_no_conversion_keep_their_outputs():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4))
    x = torch.randn(2, 1, 6, 6)
    assert torch.equal(to_private(model)(x), model(x))


QUICK = [name for name in NETWORKS if name not in ("SwinUNETR", "SENet", "VNet", "EfficientNet")]


@pytest.mark.parametrize("name", QUICK)
def test_converted_networks_treat_records_apart(name):
    network = NETWORKS[name]
    model = network.model(2)
    assert not any(isinstance(module, _BatchNorm) for module in model.modules())
    check_independence(model, network.batch(2, 3), network.losses)


def test_a_network_with_batch_norm_is_refused_without_conversion():
    network = NETWORKS["ResNet"]
    with pytest.raises(InputError, match="to_private"):
        check_independence(network.build(2).double(), network.batch(2, 3), network.losses)


def quantizer():
    torch.manual_seed(0)
    return EMAQuantizer(2, 8, 4)


def test_the_codebook_of_a_quantizer_is_not_written_in_training():
    source, x = quantizer(), torch.randn(3, 4, 5, 5)
    frozen = to_private(source).train()
    state = {name: value.clone() for name, value in frozen.state_dict().items()}
    for _ in range(3):
        frozen(x)
    assert frozen.training
    assert all(torch.equal(value, state[name]) for name, value in frozen.state_dict().items())
    before = source.embedding.weight.clone()
    source.train()(x)
    assert not torch.equal(source.embedding.weight, before)  # the original does write


def test_a_frozen_quantizer_gives_what_the_quantizer_gives():
    source, x = quantizer().eval(), torch.randn(3, 4, 5, 5)
    frozen = to_private(source)
    for found, expected in zip(frozen(x), source(x), strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(frozen.embed(frozen.quantize(x)[2]), source.embed(source.quantize(x)[2]))
    with pytest.raises(AttributeError, match="no_such"):
        frozen.no_such  # noqa: B018


@pytest.mark.parametrize("layer", [nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d()], ids=["convolution", "batch norm"])
def test_a_layer_without_shape_is_refused_by_name(layer):
    model = nn.Sequential()
    model.add_module("stem", layer)
    with pytest.raises(InputError, match=rf"layer 'stem' \({type(layer).__name__}\).*run the model once"):
        to_private(model)
