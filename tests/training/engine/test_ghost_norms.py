"""Norms of products that are never multiplied out."""

import pytest
import torch
from torch import nn
from unit_loop import clipped_sum, norm_of, relative_error, unit_gradients

from reticent.training import clipped_grad
from reticent.training.engine import strategy
from reticent.training.engine.contributions import Ghost, Kept, gram, gram_squares
from reticent.training.engine.convolution_factors import ConvolutionFactors, Geometry
from reticent.training.engine.rules.linear import LinearFactors
from reticent.training.engine.units import Units
from reticent.training.engine.workspace import Workspace

PRECISION = {torch.float64: 1e-12, torch.complex128: 1e-12, torch.float32: 1e-4, torch.complex64: 1e-4}


@pytest.mark.parametrize("dtype", PRECISION, ids=str)
def test_the_gram_product_is_the_squared_norm_of_the_gradient(dtype):
    torch.manual_seed(0)
    a, g = torch.randn(5, 2, 3, 4, dtype=dtype), torch.randn(5, 2, 6, 4, dtype=dtype)
    expected = (g @ a.mT).flatten(1).norm(dim=1).double().square()
    torch.testing.assert_close(gram_squares(gram(a), gram(g))[0], expected, rtol=PRECISION[dtype], atol=0)


GEOMETRIES = {
    "plain": Geometry((1, 1), (1, 1), (1, 1), 1),
    "strided, dilated, grouped": Geometry((2, 1), (1, 0), (1, 2), 2),
    "wide zeros": Geometry((3, 1), (4, 3), (1, 1), 1),
    "only the middle row meets pixels": Geometry((1, 1), (7, 0), (7, 1), 1),
}


@pytest.mark.parametrize("by_pixel", [True, False])
@pytest.mark.parametrize("each", [1, 2])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_inner_products_of_pixels_or_of_patches_give_the_norms_of_the_gradients(geometry, each, by_pixel, monkeypatch):
    torch.manual_seed(0)
    x, weight = torch.randn(3 * each, 4, 6, 7).double(), torch.randn(2, 4 // geometry.groups, 3, 2).double()
    y = torch.conv2d(x, weight, None, geometry.stride, geometry.padding, geometry.dilation, geometry.groups)
    factors = ConvolutionFactors(x, torch.randn_like(y), weight, geometry, Units((each,) * 3))
    monkeypatch.setattr(ConvolutionFactors, "_sums_pixels", by_pixel)
    squares, largest = factors.ghost_squares()
    torch.testing.assert_close(squares, Kept(factors.ways["loop"](Workspace().empty)).squares)
    assert (squares <= largest).all()


@pytest.mark.parametrize("scale", [1e-22, 1e17], ids=str)
def test_norms_whose_squares_leave_float32_are_as_exact_as_any(scale):
    torch.manual_seed(0)
    x, g = torch.randn(3, 4, 6), scale * torch.randn(3, 4, 5)
    factors = LinearFactors(x, g, Units((1,) * 3))
    expected = (g.double().mT @ x.double()).flatten(1).square().sum(1)
    torch.testing.assert_close(Ghost(factors, Workspace().empty).squares, expected, rtol=1e-5, atol=0)


class Difference(nn.Module):
    """Subtracts what a layer makes of two positions that are nearly alike."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        first, second = self.layer(x).unbind(-1 if x.ndim == 3 and isinstance(self.layer, nn.Conv1d) else 1)
        return (first - second).flatten(1)


LAYERS = {"linear": (lambda: nn.Linear(64, 32), 1), "convolution": (lambda: nn.Conv1d(64, 32, 1, stride=1), 2)}


@pytest.mark.parametrize(("build", "axis"), LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("apart", [1.0, 1e-2, 3e-3])
@pytest.mark.parametrize("way", ["ghost", "bmm", "rule"])
def test_a_gradient_that_is_tiny_beside_its_factors_is_as_exact_as_any(build, axis, apart, way):
    torch.manual_seed(0)
    model = Difference(build())
    centre = torch.randn(4, 64)
    x = torch.stack([centre, centre + apart * torch.randn(4, 64)], axis)
    wide = Difference(build()).double()
    wide.load_state_dict(model.state_dict())

    def loss_fn(model, batch):
        return model(batch["x"]).sum(1)

    gradients = unit_gradients(wide, loss_fn, {"x": x.double()}, torch.arange(4))
    norms = [norm_of(g.values()) for g in gradients]
    max_norm = sorted(norms)[1]
    with strategy(way):
        found = clipped_grad(model, loss_fn, {"x": x}, max_norm=max_norm)
    torch.testing.assert_close(found.norms.double(), torch.tensor(norms, dtype=torch.float64), rtol=1e-4, atol=0)
    assert relative_error(found.sum, clipped_sum(gradients, max_norm)) <= 1e-4
