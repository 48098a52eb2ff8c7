"""Weight standardisation: the filters' moments, names that stay, and gradients of every record."""

import pytest
import torch
from torch import nn
from unit_loop import EXACT, assert_is_the_loop, no_fallback

from reticent.errors import InputError
from reticent.models import ResNet9, add_scale_norm, standardise_weights
from reticent.models.weight_standardisation import standardised


@pytest.mark.parametrize("shape", [(5, 3, 7), (4, 3, 3, 3), (4, 2, 3, 3, 3)])
def test_filters_have_mean_0_and_variance_1_over_their_inputs(shape):
    made = standardised(3 + 2 * torch.randn(shape, dtype=torch.float64)).flatten(1)
    torch.testing.assert_close(made.mean(1), torch.zeros(len(made), dtype=torch.float64), atol=1e-12, rtol=0)
    expected = torch.full((len(made),), 1 / made.shape[1], dtype=torch.float64)
    torch.testing.assert_close(made.var(1, correction=0), expected)


def test_a_constant_filter_gives_zeros_and_finite_gradients():
    weight = torch.ones(2, 3, 3, 3, requires_grad=True)
    made = standardised(weight)
    assert not made.any()
    assert torch.autograd.grad(made.sum(), weight)[0].isfinite().all()


def test_names_and_values_stay_and_scale_and_shift_of_a_filter_do_not_matter():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv3d(1, 1, 1), nn.Linear(3, 3))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    standardise_weights(model)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert type(model[1]) is nn.Conv3d  # one weight a filter: standardised it would be zero
    x = torch.randn(1, 2, 5, 5)
    before = model[0](x)
    with torch.no_grad():
        model[0].weight.mul_(3).add_(0.5)
    torch.testing.assert_close(model[0](x), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale_norm", [False, True])
def test_the_clipped_sum_is_that_of_a_loop(scale_norm, recwarn):
    torch.manual_seed(0)
    model = ResNet9(spatial_dims=2, in_channels=1, out_channels=2, width=8)
    if scale_norm:
        model = add_scale_norm(model, torch.zeros(2, 1, 16, 16))
    standardise_weights(model)
    with no_fallback():
        assert_is_the_loop(model, {"x": torch.randn(3, 1, 16, 16)}, torch.arange(3), EXACT[torch.float32])
    assert not recwarn.list


def test_a_network_without_convolutions_is_refused():
    with pytest.raises(InputError, match="--standardise-weights"):
        standardise_weights(nn.Sequential(nn.Linear(2, 2)))
