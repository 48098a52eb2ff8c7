"""ScaleNorm put into networks of others: behind every join, between the addition and the activation."""

import pytest
import torch
from monai.networks.nets import UNet, resnet18
from torch import nn

from reticent.errors import InputError
from reticent.models import add_scale_norm, to_private


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch, self.act = nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()

    def forward(self, x):
        out = self.branch(x)
        out += x
        return self.act(out)


def test_the_norm_stands_between_the_addition_and_the_activation():
    torch.manual_seed(0)
    model, x = Residual(), torch.randn(2, 6, 8, 8)
    expected = nn.functional.relu(nn.functional.group_norm(model.branch(x) + x, 6))
    scaled = add_scale_norm(model, x)
    torch.testing.assert_close(scaled(x), expected)
    assert scaled.branch.weight is not None
    assert scaled.state_dict().keys() - model.state_dict().keys() == {"scale_norm_0.weight", "scale_norm_0.bias"}


def test_a_resnet_gets_one_norm_a_block():
    torch.manual_seed(0)
    model = to_private(resnet18(spatial_dims=2, n_input_channels=1, num_classes=3))
    scaled = add_scale_norm(model, torch.randn(2, 1, 32, 32))
    norms = [module for name, module in scaled.named_modules() if name.startswith("scale_norm_")]
    assert [norm.num_channels for norm in norms] == [64, 64, 128, 128, 256, 256, 512, 512]
    assert {norm.num_groups for norm in norms} == {32}
    assert scaled(torch.randn(2, 1, 48, 48)).shape == (2, 3)


def test_concatenating_joins_of_a_u_net_are_normalised_over_the_joined_channels():
    model = UNet(spatial_dims=2, in_channels=1, out_channels=2, channels=(4, 8, 16), strides=(2, 2), norm="instance")
    scaled = add_scale_norm(model, torch.randn(1, 1, 16, 16))
    norms = [module for name, module in scaled.named_modules() if name.startswith("scale_norm_")]
    assert [norm.num_channels for norm in norms] == [16 + 8, 4 + 4]


def test_a_network_without_joins_or_without_a_graph_is_refused():
    with pytest.raises(InputError, match="joins no paths"):
        add_scale_norm(nn.Conv2d(1, 2, 3), torch.randn(1, 1, 8, 8))

    class Chooses(nn.Module):
        def forward(self, x):
            return x + x if x.sum() > 0 else x

    with pytest.raises(InputError, match="cannot be read as one graph"):
        add_scale_norm(Chooses(), torch.randn(1, 1, 8, 8))


@pytest.mark.parametrize("training", [True, False])
def test_a_forward_that_depends_on_the_mode_is_refused(training):
    """Its graph would drop out in prediction too, or never."""

    class Drops(nn.Module):
        def forward(self, x):
            return x + nn.functional.dropout(x, 0.5, training=self.training)

    model = Drops().train(training)
    with pytest.raises(InputError, match="something else in training"):
        add_scale_norm(model, torch.randn(1, 1, 8, 8))
    assert model.training is training


def test_dropout_as_a_layer_drops_in_training_alone():
    class Drops(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return x + self.drop(x)

    scaled, x = add_scale_norm(Drops(), torch.randn(1, 1, 8, 8)), torch.randn(1, 1, 8, 8)
    assert not torch.equal(scaled(x), scaled(x))
    scaled.eval()
    assert torch.equal(scaled(x), scaled(x))


def test_a_concatenation_by_a_negative_axis_is_a_join():
    class Concatenates(nn.Module):
        def forward(self, x):
            return torch.cat([x, x.relu()], dim=-3)

    scaled = add_scale_norm(Concatenates(), torch.randn(1, 3, 8, 8))
    assert scaled.scale_norm_0.num_channels == 6
