"""ResNet-9 with ScaleNorm: the published sizes, and what the norm behind the addition does."""

import pytest
import torch
from torch import nn

from reticent.models import ResNet9


def small(**options):
    torch.manual_seed(0)
    return ResNet9(3, 10, width=16, groups=4, **options)


@pytest.mark.parametrize(("scale_norm", "count"), [(True, 2_448_714), (False, 2_447_946)])
def test_published_numbers_of_parameters(scale_norm, count):
    assert sum(p.numel() for p in ResNet9(3, 10, scale_norm=scale_norm).parameters()) == count


def test_scale_norm_adds_two_norms_and_nothing_else():
    with_norm, without = small().state_dict(), small(scale_norm=False).state_dict()
    assert with_norm.keys() - without.keys() == {f"scale_norm{i}.{p}" for i in (1, 2) for p in ("weight", "bias")}
    assert without.keys() <= with_norm.keys()


@pytest.mark.parametrize(
    ("channels", "size", "options"),
    [(3, (32, 32), {}), (1, (28, 28), {}), (1, (128, 160), {"large_input": True}), (1, (16, 16, 24), {})],
    ids=str,
)
def test_images_and_volumes_give_one_logit_a_class(channels, size, options):
    model = ResNet9(channels, 4, spatial_dims=len(size), width=8, groups=4, **options)
    assert model(torch.randn(2, channels, *size)).shape == (2, 4)


def test_published_shapes_at_32_pixels():
    model = ResNet9(3, 10)
    shapes = []
    for part in (model.first, model.scale_norm1, model.middle, model.scale_norm2, model.head[1]):
        part.register_forward_hook(lambda _m, _i, output: shapes.append(tuple(output.shape[1:])))
    model(torch.randn(1, 3, 32, 32))
    assert shapes == [(128, 16, 16), (128, 16, 16), (256, 4, 4), (256, 4, 4), (1024,)]


def test_what_leaves_an_addition_has_unit_variance_in_every_group():
    model, outputs = small(), []
    for norm in (model.scale_norm1, model.scale_norm2):
        norm.register_forward_hook(lambda _m, _i, output: outputs.append(output))
    model(torch.randn(4, 3, 32, 32))
    for output in outputs:
        by_group = output.unflatten(1, (4, -1)).flatten(2)
        torch.testing.assert_close(by_group.mean(2), torch.zeros(4, 4), rtol=0, atol=1e-4)
        torch.testing.assert_close(by_group.var(2, correction=0), torch.ones(4, 4), rtol=0, atol=1e-4)


def test_the_scale_of_a_sum_does_not_reach_the_logits():
    """Only with the norm: a sum a thousand times as large gives the same logits."""
    x = torch.randn(2, 3, 32, 32)
    for scale_norm in (True, False):
        model = small(scale_norm=scale_norm).double()
        inner = nn.Sequential(model.scale_norm2, model.head)
        total = model.middle(model.first(x.double())) * 10
        same = torch.allclose(inner(total), inner(1000 * total), rtol=1e-4, atol=1e-4)
        assert same == scale_norm


def test_spread_grows_with_every_addition_unless_it_is_normalised():
    """Branches of the same variance v as the input add up: after k of them the spread is sqrt(1 + k)."""
    torch.manual_seed(0)
    branch = lambda: nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.GroupNorm(32, 64, affine=False))  # noqa: E731
    branches, norm = [branch() for _ in range(4)], nn.GroupNorm(32, 64)
    plain = scaled = torch.randn(4, 64, 16, 16)
    for k, one in enumerate(branches, start=1):
        plain, scaled = plain + one(plain), norm(scaled + one(scaled))
        assert plain.std().item() == pytest.approx((1 + k) ** 0.5, rel=0.05)
        assert scaled.std().item() == pytest.approx(1, rel=0.001)
