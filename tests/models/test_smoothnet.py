"""SmoothNet: the published sizes, shapes, and what the head reads."""

import pytest
import torch
from torch import nn

from reticent.models import SmoothNet
from reticent.training import clipped_grad

PUBLISHED = {  # (width, depth): parameters at three channels and ten classes
    (8.0, 5.0): 3_391_853,
    (1.0, 1.0): 101_017,
    (5.0, 1.0): 379_465,
    (8.0, 1.0): 601_069,
    (1.0, 8.0): 222_957,
    (5.0, 5.0): 1_472_825,
    (8.0, 8.0): 8_237_453,
}


@pytest.mark.parametrize(("size", "count"), PUBLISHED.items())
def test_published_sizes_have_the_published_numbers_of_parameters(size, count):
    width, depth = size
    assert sum(p.numel() for p in SmoothNet(3, 10, width=width, depth=depth).parameters()) == count


@pytest.mark.parametrize(
    ("channels", "size"), [(1, (32, 32)), (2, (16, 16)), (3, (28, 28)), (3, (224, 224)), (1, (16, 20, 24))], ids=str
)
def test_images_and_volumes_of_any_size_give_one_logit_a_class(channels, size):
    model = SmoothNet(channels, 7, spatial_dims=len(size), width=1, depth=2)
    assert model(torch.randn(2, channels, *size)).shape == (2, 7)


def test_the_head_reads_the_last_block_alone():
    torch.manual_seed(0)
    model = SmoothNet(3, 10, width=1, depth=2)
    seen = []
    model.pool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    last = []
    model.second[-1].register_forward_hook(lambda _m, _i, output: last.append(output))
    model(torch.randn(2, 3, 16, 16))
    assert torch.equal(seen[0], last[0])
    assert seen[0].shape[1] == 16


@pytest.mark.parametrize(("width", "groups"), [(8.0, 8), (1.0, 8), (0.5, 4), (1.75, 7)])
def test_norms_have_as_many_groups_up_to_eight_as_divide_the_channels(width, groups):
    norm = SmoothNet(3, 10, width=width, depth=1).first[0][2]
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == groups


def test_without_concatenation_every_block_reads_the_one_before():
    model = SmoothNet(3, 10, width=1, depth=3, dense=False)
    assert [block[0].in_channels for block in model.first] == [3, 8, 8]
    assert model(torch.randn(2, 3, 16, 16)).shape == (2, 10)


def test_convolutions_start_with_the_spread_of_xaviers_law():
    """Of the outputs of a convolution: gain * sqrt(2 fan_in / (fan_in + fan_out)) * rms of its inputs."""
    torch.manual_seed(0)
    model = SmoothNet(3, 10)
    for conv, channels in ((model.first[1][0], 67), (model.second[0][0], 161)):
        x = torch.randn(8, channels, 16, 16)
        inputs, outputs = 9 * channels, 9 * conv.out_channels
        expected = 0.75 * (2 * inputs / (inputs + outputs)) ** 0.5
        inside = conv(x)[..., 1:-1, 1:-1]
        assert inside.std().item() == pytest.approx(expected, rel=0.2)


def test_no_record_touches_the_logits_of_another_and_clipped_sums_are_those_of_a_loop():
    torch.manual_seed(0)
    model = SmoothNet(1, 3, width=1, depth=2).double()
    x, y = torch.randn(4, 1, 16, 16, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    jacobian = torch.autograd.functional.jacobian(model, x).abs().sum((1, 3, 4, 5))
    assert (jacobian[~torch.eye(4, dtype=torch.bool)] == 0).all()
    assert (jacobian.diagonal() > 0).all()

    def losses(model, batch):
        return nn.functional.cross_entropy(model(batch["x"]), batch["y"], reduction="none")

    found = clipped_grad(model, losses, {"x": x, "y": y}, max_norm=0.5).sum
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for i in range(4):
        loss = losses(model, {"x": x[i : i + 1], "y": y[i : i + 1]}).sum()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        norm = torch.stack([g.norm() for g in gradients]).norm()
        for name, g in zip(expected, gradients, strict=True):
            expected[name] += g * (0.5 / norm).clamp(max=1)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-11)
