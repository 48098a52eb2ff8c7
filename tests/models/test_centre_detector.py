"""The default detector: its size, its maps, and that no image sees another."""

import pytest
import torch

from reticent.errors import InputError
from reticent.models import CentreDetector, build_model
from reticent.training import check_independence


def test_it_has_the_parameters_of_its_description_and_only_group_norm():
    model = CentreDetector(2, 3, 7)
    assert sum(p.numel() for p in model.parameters()) == 178_391
    norms = [module for module in model.modules() if "Norm" in type(module).__name__]
    assert {type(norm).__name__ for norm in norms} == {"GroupNorm"}
    assert {norm.num_groups for norm in norms} == {8}


@pytest.mark.parametrize("size", [(120, 160), (64, 64), (50, 37)])
def test_a_cell_is_four_pixels(size):
    maps = CentreDetector(2, 1, 6, width=32)(torch.randn(2, 1, *size))
    assert maps.shape == (2, 6, -(-size[0] // 4), -(-size[1] // 4))


def test_at_first_nearly_nothing_is_a_centre():
    torch.manual_seed(0)
    heat = CentreDetector(2, 3, 7)(torch.randn(4, 3, 64, 64))[:, :3].sigmoid()
    assert 0.02 < heat.mean() < 0.1


def test_images_do_not_influence_each_other():
    check_independence(CentreDetector(2, 3, 7, width=16), torch.randn(2, 3, 32, 32))


def test_it_is_for_boxes_in_images():
    shape = {"in_channels": 1, "out_channels": 6, "image_size": (32, 32)}
    assert isinstance(build_model("default", spatial_dims=2, **shape, output="boxes"), CentreDetector)
    assert isinstance(build_model("centre-detector", spatial_dims=2, **shape, output="boxes"), CentreDetector)
    with pytest.raises(InputError, match="these are volumes"):
        build_model("default", spatial_dims=3, **shape, output="boxes")
    with pytest.raises(InputError, match="'centre-detector' finds boxes; to classify"):
        build_model("centre-detector", spatial_dims=2, **shape)
    with pytest.raises(InputError, match="'resnet9' classifies whole images; for boxes say default"):
        build_model("resnet9", spatial_dims=2, **shape, output="boxes")
