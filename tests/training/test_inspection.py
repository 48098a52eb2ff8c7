"""What an inspection says of networks whose weakness is known, and of their gradients on public images."""

import pytest
import torch
from monai.networks.nets import DenseNet121, ResNet
from torch import nn

from reticent.data import open_cohort
from reticent.models import ResNet9, SmoothNet, add_scale_norm
from reticent.records import ModelOptions
from reticent.training import inspect_model, public_gradients

IMAGES = torch.randn(2, 1, 32, 32)


def problems(model, images=IMAGES):
    return {finding.problem.split(":")[0] for finding in inspect_model(model, images).findings}


def layers(*parts):
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), *parts, nn.Flatten(), nn.LazyLinear(2))


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        (nn.GroupNorm(8, 8), "normalises each channel alone, and loses its size"),
        (nn.InstanceNorm2d(8), "normalises each channel alone, and loses its size"),
        (nn.Sequential(nn.GroupNorm(2, 8), nn.Dropout(0.1)), "dropout adds variance to what the noise blurs already"),
        (nn.Sequential(nn.GroupNorm(2, 8), nn.ReLU()), "kinks"),
        (nn.Identity(), "nothing is normalised"),
    ],
    ids=["a channel a group", "InstanceNorm", "dropout", "kinks", "no norm"],
)  # fmt: skip
def test_a_weakness_is_named_and_nothing_else(part, problem):
    model = layers(part)
    model(IMAGES)
    assert problems(model) == {problem}


def test_networks_for_private_training_have_nothing_to_mend_and_scale_norm_mends_joins():
    options = {"in_channels": 1, "out_channels": 2, "spatial_dims": 2}
    assert not problems(ResNet9(**options, width=8, groups=2))
    assert not problems(SmoothNet(**options, width=2.0, depth=2))
    assert problems(ResNet9(**options, width=8)) == {"normalises each channel alone, and loses its size"}
    bare = ResNet9(**options, width=8, groups=2, scale_norm=False)
    (found,) = inspect_model(bare, IMAGES).findings
    assert (found.where, found.remedy) == ("2 of 2 additions of paths", "--scale-norm")
    assert not problems(add_scale_norm(bare, IMAGES, groups=2))


def test_batch_norm_is_refused_by_name_and_the_model_stays_as_it_was():
    model = DenseNet121(spatial_dims=2, in_channels=1, out_channels=2).train()
    modes = {module: module.training for module in model.modules()}
    found = inspect_model(model, IMAGES)
    assert found.findings[0].where == "training is refused"
    assert "BatchNorm" in found.findings[0].problem
    assert {module: module.training for module in model.modules()} == modes
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.norms == {"BatchNorm2d": 121}


def test_joins_of_a_residual_network_of_monai_are_counted():
    model = ResNet(
        "basic", [1, 1, 1, 1], [8, 16, 32, 64], spatial_dims=2, n_input_channels=1, num_classes=2,
        norm=("group", {"num_groups": 2}),
    )  # fmt: skip
    assert any(finding.where == "4 of 4 additions of paths" for finding in inspect_model(model, IMAGES).findings)


def test_gradients_on_public_images(tmp_path):
    cohort = open_cohort("phantom:chest", unit="record", strict=False, hashed=False)
    options = ModelOptions(arguments={"width": 8})
    one, two = (
        public_gradients(options, cohort, 12, noise_multiplier=sigma, max_norm=1e-3, batch_size=64)[1]
        for sigma in (1.0, 2.0)
    )
    assert one.units == 12
    assert one.clipped == 1
    assert 0 < two.signal[""] < one.signal[""]
