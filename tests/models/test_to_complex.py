"""Networks converted layer by layer: what becomes what, and what is refused."""

import pytest
import torch
from torch import nn
from unit_loop import assert_is_the_loop, no_fallback

from reticent.errors import InputError
from reticent.models import ComplexGroupNorm, ConjMish, Magnitude, MagnitudeMaxPool, PerPart, to_complex
from reticent.training.real_coordinates import wide_dtype


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.GroupNorm(2, 4), nn.SELU()

    def forward(self, x):
        return torch.cat([x, self.act(self.norm(self.conv(x)))], 1)


def network():
    torch.manual_seed(0)
    shared = nn.ReLU()
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, groups=1), shared, Block(), nn.MaxPool2d(2), shared, nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(32, 3),
    )  # fmt: skip


def test_each_layer_becomes_its_complex_counterpart_and_the_model_stays():
    model = network().eval()
    found = to_complex(model)
    kinds = [type(layer) for layer in found]
    assert kinds == [nn.Conv2d, ConjMish, Block, MagnitudeMaxPool, ConjMish, PerPart, nn.Flatten, nn.Linear]
    assert isinstance(found[2].norm, ComplexGroupNorm)
    assert found[1] is found[4]
    assert (found[0].stride, found[2].conv.padding, found[2].conv.bias) == ((2, 2), (1, 1), None)
    assert all(p.is_complex() or name.endswith("norm.weight") for name, p in found.named_parameters())
    assert not any(p.is_complex() for p in model.parameters())
    assert not any(module.training for module in found.modules())


def test_the_converted_network_gives_complex_outputs_and_the_clipped_sum_of_a_loop():
    model = nn.Sequential(to_complex(network()), Magnitude())
    for parameter in model.parameters():
        parameter.data = parameter.data.to(wide_dtype(parameter))
    x = torch.randn(4, 1, 16, 16, dtype=torch.complex128)
    assert model[0](x).is_complex()
    with no_fallback():
        assert_is_the_loop(model, {"x": x}, torch.tensor([0, 1, 1, 2]), 1e-9)


def test_a_single_layer_is_converted():
    assert isinstance(to_complex(nn.GroupNorm(2, 4)), ComplexGroupNorm)


class Scaled(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, 1, 1))
        self.scale = nn.Parameter(torch.ones(1))


class Odd(nn.Conv2d):
    pass


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(4), nn.Softmax(1), nn.MaxPool2d(3, stride=1), nn.MaxPool2d((2, 3)),
        nn.GroupNorm(2, 4, affine=False),
        nn.Conv2d(1, 1, 3, padding_mode="reflect", padding=1), Odd(1, 1, 1), Scaled(), nn.Dropout(),
    ],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
def test_what_has_no_counterpart_is_refused_by_name(layer):
    with pytest.raises(InputError, match=rf"layer '1' \({type(layer).__name__}\) has no complex counterpart"):
        to_complex(nn.Sequential(nn.Conv2d(1, 4, 3), layer))
