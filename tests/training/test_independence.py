"""Networks in which one patient's gradient does not exist are refused, with the layer's name and the remedy."""

import monai.networks.nets
import pytest
import torch
from torch import nn

from reticent.errors import InputError
from reticent.models import SmallUNet, SmoothClassifier, build_model
from reticent.training import check_independence
from reticent.training.prediction import forward

IMAGES = {"image": torch.randn(3, 1, 16, 16)}


class Counts(nn.Module):
    """Keeps a running mean of what it saw."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += x.mean()
        return x.flatten(1)


class Remembers(nn.Module):
    """Keeps a running mean in a parameter that no optimiser trains."""

    def __init__(self):
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, x):
        self.centre += x.mean()
        return x.flatten(1)


class Centred(nn.Module):
    def forward(self, x):
        return x.flatten(1) - x.flatten(1).mean(0)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), r"layer '1' \(BatchNorm2d\).*\nUse GroupNorm"),
        (nn.Sequential(nn.InstanceNorm2d(1, track_running_stats=True)), "layer '0'.*track_running_stats=False"),
        (nn.Sequential(nn.Identity(), Counts()), "'1.seen' is written"),
        (Remembers(), "'centre' is written"),
        (Centred(), "Centred: a record's output changes with the other records"),
    ],
    ids=["BatchNorm", "InstanceNorm with running statistics", "written buffer", "written parameter", "coupled records"],
)
def test_coupling_layers_and_written_buffers_are_refused_by_name(model, message):
    with pytest.raises(InputError, match=message):
        check_independence(model.train(), IMAGES, forward)


def test_monai_networks_are_refused_with_batch_norm_and_accepted_with_group_norm():
    with pytest.raises(InputError, match=r"model.0.conv.unit0.adn.N.*BatchNorm2d"):
        check_independence(monai_unet("batch"), IMAGES, forward)
    check_independence(monai_unet(("group", {"num_groups": 2})), IMAGES, forward)


def monai_unet(norm):
    return monai.networks.nets.UNet(2, 1, 2, channels=(4, 8), strides=(2,), num_res_units=2, norm=norm).train()


@pytest.mark.parametrize(
    "model",
    [
        SmoothClassifier(2, 1, 2, (16, 16)),
        SmallUNet(2, 1, 2),
        nn.Sequential(nn.InstanceNorm2d(1), nn.Dropout(0.5), nn.Flatten()),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2).eval()),
    ],
    ids=["default classifier", "default segmenter", "instance norm and dropout", "frozen batch norm"],
)
def test_networks_that_treat_records_apart_are_accepted(model):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    check_independence(model, IMAGES, forward)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


class OtherKernel(nn.Linear):
    """One record alone goes through another kernel, which rounds the last bit of bfloat16 otherwise."""

    def forward(self, x):
        y = super().forward(x)
        return y * (1 + 2.0**-7) if len(x) == 1 else y


@pytest.mark.parametrize("kind", ["bfloat16", "autocast", "float32"])
def test_roundings_of_16_bits_are_no_coupling_but_those_of_others_are(kind):
    torch.manual_seed(0)
    dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
    batch = torch.randn(3, 4, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
        with pytest.raises(InputError, match="changes with the other records"):
            check_independence(nn.Sequential(OtherKernel(4, 4), Centred()).to(dtype), batch)
        if kind == "float32":
            with pytest.raises(InputError, match="changes with the other records"):
                check_independence(OtherKernel(4, 4), batch)
        else:
            check_independence(OtherKernel(4, 4).to(dtype), batch)


SHAPE = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "image_size": (16, 16)}


def test_networks_are_found_by_name_and_given_what_their_signature_asks_for():
    assert isinstance(build_model("default", **SHAPE), SmoothClassifier)
    assert isinstance(build_model("default", **SHAPE, output="mask"), SmallUNet)
    assert build_model("default", **SHAPE, arguments={"width": 8}).head[-1].in_features == 7 * 8 * 9
    net = build_model(
        "monai:DenseNet",
        **SHAPE,
        arguments={"norm": ("group", {"num_groups": 2}), "init_features": 8, "growth_rate": 4},
    )
    assert isinstance(net, monai.networks.nets.DenseNet)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet", {}, 'say "default", "smoothnet", "resnet9", .*"monai:NAME"'),
        ("monai:NoSuchNet", {}, "has no 'NoSuchNet'"),
        ("no_such_package:net", {}, "No module named 'no_such_package'"),
        ("default", {"depth": 3}, "cannot be built"),
        ("fractions:Fraction", {}, "not a torch.nn.Module"),
        ("math:pi", {}, "not a network or a function"),
    ],
)
def test_unknown_networks_and_arguments_are_refused(name, arguments, message):
    with pytest.raises(InputError, match=message):
        build_model(name, **SHAPE, arguments=arguments)
