"""HiResCAM's own property: behind it only a mean and a linear layer, the map adds up to the logit."""

import pytest
import torch
from torch import nn

from reticent.errors import InputError
from reticent.models import SliceClassifier, hirescam


def test_before_a_mean_and_a_linear_layer_the_map_adds_up_to_the_logit():
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)
    ).double()
    image = torch.randn(1, 2, 9, 8, dtype=torch.float64)
    (found,) = hirescam(model, image, 2)
    assert found.shape == (1, 5, 4)
    torch.testing.assert_close(found.sum() + model[-1].bias[2], model(image)[0, 2])
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("axes", [(0,), (0, 2)])
def test_slices_are_rows_and_maps_of_the_mean_are_their_contributions(axes):
    encoder = nn.Sequential(nn.Conv2d(1, 6, 3, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = SliceClassifier(encoder, 2, 6, axes, "mean").double()
    volume = torch.randn(1, 1, 5, 6, 7, dtype=torch.float64)
    maps = hirescam(model, volume, 1)
    assert [len(found) for found in maps] == [volume.shape[2 + axis] for axis in axes]
    sums = torch.cat([found.flatten(1).sum(1) for found in maps])
    torch.testing.assert_close(sums, model.explain(volume).contributions[0, :, 1])


def test_a_network_without_convolutions_is_refused_and_left_alone():
    with pytest.raises(InputError, match="no convolution"):
        hirescam(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.zeros(1, 1, 2, 2), 0)
