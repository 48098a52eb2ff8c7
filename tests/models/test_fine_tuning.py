"""Which parameters are trained, and that low-rank additions begin at nothing and reach rank r."""

import pytest
import torch
from torch import nn
from unit_loop import EXACT, assert_is_the_loop, no_fallback

from reticent.errors import InputError
from reticent.models import ResNet9, fine_tune


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(64, 8),
        nn.ReLU(), nn.Linear(8, 3),
    )  # fmt: skip


IMAGE = torch.zeros(2, 1, 8, 8)


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("all", {"0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias", "5.weight", "5.bias"}),
        ("last", set()),
        ("biases", {"0.bias", "1.bias", "3.bias", "5.bias"}),
        ("lora", {"0.lora_down", "0.lora_up", "5.lora_down", "5.lora_up"}),
    ],
)
def test_what_is_trained(what, names):
    model = network()
    fine_tune(model, what, IMAGE, 2)
    assert trained(model) == names | {"7.weight", "7.bias"}


def test_the_head_is_the_layer_called_last_not_the_one_written_last():
    class Crossed(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.body = nn.Linear(4, 2), nn.Linear(64, 4)

        def forward(self, x):
            return self.head(self.body(x.flatten(1)))

    model = Crossed()
    fine_tune(model, "last", IMAGE, 2)
    assert trained(model) == {"head.weight", "head.bias"}


@pytest.mark.parametrize("what", ["all", "last", "biases", "lora"])
def test_outputs_and_old_names_stay(what):
    model, x = network(), torch.randn(5, 1, 8, 8)
    before, state = model(x), dict(model.state_dict())
    fine_tune(model, what, IMAGE, 3)
    torch.testing.assert_close(model(x), before)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())


def test_additions_to_a_layer_have_the_given_rank():
    model = network()
    fine_tune(model, "lora", IMAGE, 2)
    for layer in (model[0], model[5]):
        nn.init.normal_(layer.lora_up)
        eye = torch.eye(layer.weight[0].numel()).view(-1, *layer.weight.shape[1:])
        old = torch.nn.functional.linear(eye.flatten(1), layer.weight.flatten(1), layer.bias)
        added = layer(eye).flatten(1) - old
        assert torch.linalg.matrix_rank(added, atol=1e-4) == 2


@pytest.mark.parametrize("what", ["last", "biases", "lora"])
def test_the_clipped_sum_is_that_of_a_loop_without_a_fallback(what, recwarn):
    model = ResNet9(spatial_dims=2, in_channels=1, out_channels=2, width=8)
    fine_tune(model, what, torch.zeros(2, 1, 16, 16), 2)
    with no_fallback():
        assert_is_the_loop(model, {"x": torch.randn(4, 1, 16, 16)}, torch.arange(4), EXACT[torch.float32])
    assert not recwarn.list


def test_a_network_with_nothing_to_add_to_is_refused():
    with pytest.raises(InputError, match="--fine-tune lora"):
        fine_tune(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), "lora", IMAGE, 2)
    with pytest.raises(InputError, match="calls no layer"):
        fine_tune(nn.Flatten(), "last", IMAGE, 2)


def test_additions_count_in_prediction_where_pytorch_fuses_a_layer():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model, x = nn.Sequential(layer, nn.Flatten(), nn.Linear(32, 2)), torch.randn(2, 4, 8)
    fine_tune(model, "lora", x, 2)
    for name, parameter in model.named_parameters():
        if name.endswith("lora_up"):
            nn.init.normal_(parameter)
    trained = model.train()(x)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), trained)
