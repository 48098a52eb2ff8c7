"""Complex layers: closed forms, other ways of computing the same, and what the clipped sum needs of them.

Statistical checks: the spread of first weights, three of at most 1e-8 each; seeds are fixed.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn
from unit_loop import assert_is_the_loop, no_fallback

from reticent.errors import InputError
from reticent.models import (
    Cardioid,
    ComplexGroupNorm,
    ConjMish,
    IGaussian,
    LogMagnitude,
    Magnitude,
    MagnitudeMaxPool,
    PerPart,
    SeparableMish,
    ikspace,
    initialise_complex,
    kspace,
)
from reticent.training import clipped_grad
from reticent.training.real_coordinates import wide_dtype

C128 = torch.complex128
ACTIVATIONS = [ConjMish(), SeparableMish(), Cardioid(), IGaussian(), LogMagnitude()]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def to_double(model):
    for parameter in model.parameters():
        parameter.data = parameter.data.to(wide_dtype(parameter))
    return model


def covariances(z, groups):
    """Mean (n, groups) and covariance (n, groups, 2, 2) of the parts, over a group's channels and positions."""
    parts = torch.view_as_real(z.reshape(len(z), groups, -1))
    mean = parts.mean(2)
    centred = parts - mean[:, :, None]
    return mean, centred.mT @ centred / parts.shape[2]


def test_a_complex_convolution_is_four_real_ones_and_gausss_three():
    x, conv = torch.randn(2, 3, 9, 8, dtype=C128), to_double(nn.Conv2d(3, 4, 3, padding=1, dtype=torch.complex64))
    w, found = conv.weight, conv(x) - conv.bias[:, None, None]

    def real(a, b):
        return F.conv2d(a, b, padding=1)

    four = torch.complex(
        real(x.real, w.real) - real(x.imag, w.imag), real(x.imag, w.real) + real(x.real, w.imag)
    )  # fmt: skip
    first, second, third = (
        real(x.real + x.imag, w.real), real(x.real, w.imag - w.real), real(x.imag, w.real + w.imag)
    )  # fmt: skip
    torch.testing.assert_close(found, four, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found, torch.complex(first - third, first + second), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("groups", "shape"), [(1, (3, 6, 5, 5)), (3, (2, 6, 7, 8)), (6, (2, 6, 4, 5, 6)), (2, (4, 32))]
)
def test_whitened_groups_have_mean_zero_and_covariance_one(groups, shape):
    z = 300 * torch.randn(shape, dtype=C128)
    z = torch.complex(z.real + 2, 0.8 * z.real + 0.3 * z.imag - 1)
    norm = to_double(ComplexGroupNorm(groups, shape[1]))
    mean, covariance = covariances(norm(z) * math.sqrt(2), groups)
    torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-9)
    torch.testing.assert_close(covariance, torch.eye(2).expand_as(covariance).double(), rtol=0, atol=5e-5)


def test_the_closed_form_is_the_inverse_square_root_by_eigenvalues():
    z, norm = torch.randn(2, 4, 5, 5, dtype=C128) * (1 + 2j) + 0.5, to_double(ComplexGroupNorm(2, 4))
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.copy_(torch.randn(4, dtype=C128))
    mean, covariance = covariances(z, 2)
    values, vectors = torch.linalg.eigh(covariance + norm.eps * torch.eye(2))
    root = vectors @ torch.diag_embed(values**-0.5) @ vectors.mT
    parts = torch.view_as_real(z.reshape(2, 2, -1)) - mean[:, :, None]
    white = (parts @ root).reshape(2, 4, 25, 2)
    expected = torch.einsum("cij,ncsj->ncsi", norm.weight, white) + torch.view_as_real(norm.bias)[:, None]
    torch.testing.assert_close(torch.view_as_real(norm(z)).reshape(expected.shape), expected, rtol=1e-9, atol=1e-9)


def test_a_real_linear_map_of_the_parts_changes_the_whitened_ones_by_a_rotation_or_reflection_alone():
    z, norm = 100 * torch.randn(2, 4, 6, 6, dtype=C128), to_double(ComplexGroupNorm(2, 4))
    mixed = torch.view_as_complex((torch.view_as_real(z) @ torch.randn(2, 2, dtype=torch.float64)).contiguous())
    one, other = (math.sqrt(2) * torch.view_as_real(norm(x).reshape(2, 2, -1)) for x in (z, mixed))
    turn = one.mT @ other / one.shape[2]
    torch.testing.assert_close(turn.mT @ turn, torch.eye(2).expand_as(turn).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(one @ turn, other, rtol=0, atol=1e-5)
    assert (turn - torch.eye(2)).abs().max() > 0.1


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 1e4])
@pytest.mark.parametrize("slope", [0.0, 2.0], ids=["real", "imaginary in proportion to real"])
def test_degenerate_input_gives_finite_values_and_gradients_in_float32(scale, slope):
    x = scale * torch.randn(2, 4, 8, 8)
    z = torch.complex(x, slope * x).requires_grad_()
    norm = ComplexGroupNorm(2, 4)
    y = norm(z)
    gradients = torch.autograd.grad(torch.view_as_real(y).sin().sum(), [z, *norm.parameters()])
    assert all(t.isfinite().all() for t in (y, *gradients))
    assert y.abs().max() < 100


def test_groups_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(InputError, match="3 groups do not divide 4 channels"):
        ComplexGroupNorm(3, 4)


def test_conj_mish_has_its_identities():
    z = torch.randn(1000, dtype=C128)
    y = ConjMish()(z)
    torch.testing.assert_close(y, (1 + 1j) * F.mish(z.real) - (1 - 1j) * F.mish(z.imag), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(y.abs() ** 2, 2 * (F.mish(z.real) ** 2 + F.mish(z.imag) ** 2), rtol=1e-12, atol=1e-12)
    assert ConjMish()(torch.zeros(1, dtype=C128)) == 0


def test_separable_mish_takes_each_part_by_itself():
    z = torch.tensor([1 - 2j, -0.5 + 3j], dtype=C128)
    x = torch.view_as_real(z)
    expected = x * torch.tanh(torch.log1p(torch.exp(x)))
    torch.testing.assert_close(torch.view_as_real(SeparableMish()(z)), expected, rtol=1e-12, atol=1e-12)


def test_cardioid_igaussian_and_log_magnitude_have_their_formulas():
    z = torch.randn(1000, dtype=C128)
    torch.testing.assert_close(Cardioid()(z), z * (1 + z.angle().cos()) / 2, rtol=1e-12, atol=1e-12)
    expected = (1 - torch.exp(-(z.abs() ** 2) / (2 * 0.4**2))) * z / z.abs()
    torch.testing.assert_close(IGaussian()(z), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        LogMagnitude()(z), torch.polar(torch.log(1 + z.abs()), z.angle()), rtol=1e-12, atol=1e-12
    )
    real = torch.linspace(-3, 3, 50, dtype=torch.float64).to(C128)
    torch.testing.assert_close(Cardioid()(real).real, real.real.relu(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("activation", [*ACTIVATIONS, Magnitude()], ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-20, 1e-12, 1e-6, 1e4])
def test_activations_and_their_gradients_are_finite_near_zero_and_far_away(activation, size):
    z = (size * torch.exp(1j * torch.linspace(-3, 3, 9))).to(torch.complex64).requires_grad_()
    y = activation(z)
    (gradient,) = torch.autograd.grad((y.real if y.is_complex() else y).sum(), z)
    assert y.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 10


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: type(a).__name__)
def test_gradients_of_activations_are_those_of_finite_differences(activation):
    z = torch.randn(7, dtype=C128, requires_grad=True)
    assert torch.autograd.gradcheck(activation, (z,))


def test_average_pooling_averages_complex_numbers():
    z = torch.randn(2, 3, 6, 8, dtype=C128)
    expected = z.reshape(2, 3, 3, 2, 4, 2).mean((3, 5))
    torch.testing.assert_close(PerPart(nn.AvgPool2d(2))(z), expected)


@pytest.mark.parametrize("shape", [(2, 3, 6, 8), (2, 3, 7, 9), (1, 2, 4, 6, 5)], ids=str)
def test_magnitude_pooling_takes_what_max_pooling_of_the_magnitudes_finds(shape):
    z = torch.randn(shape, dtype=C128)
    pool = F.max_pool2d if len(shape) == 4 else F.max_pool3d
    _, places = pool(z.abs(), 2, return_indices=True)
    expected = z.flatten(2).gather(2, places.flatten(2)).reshape(places.shape)
    assert torch.equal(MagnitudeMaxPool(2)(z), expected)


def test_kspace_is_the_centred_unitary_fourier_transform():
    x = torch.randn(2, 1, 6, 7, dtype=torch.float64)

    def matrix(n):
        k = torch.arange(n, dtype=torch.float64) - n // 2
        return torch.exp(-2j * math.pi * k[:, None] * k / n) / math.sqrt(n)

    expected = matrix(6) @ x.to(C128) @ matrix(7).mT
    torch.testing.assert_close(kspace(x), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ikspace(kspace(x)), x.to(C128), rtol=1e-10, atol=1e-10)
    volume = torch.randn(1, 2, 4, 5, 6, dtype=C128)
    torch.testing.assert_close(ikspace(kspace(volume)), volume, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(kspace(volume).norm(), volume.norm(), rtol=1e-10, atol=1e-10)


def test_a_shift_of_the_image_is_a_phase_ramp_of_its_kspace():
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    ramp = torch.exp(-2j * math.pi * (torch.arange(8, dtype=torch.float64) - 4) * 3 / 8)
    torch.testing.assert_close(kspace(x.roll(3, -1)), kspace(x) * ramp, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("layer", "square"),
    [
        (nn.Conv2d(32, 64, 3, dtype=torch.complex64), 2 / (32 * 9)),
        (nn.Conv3d(8, 64, 3, dtype=torch.complex64), 2 / (8 * 27)),
        (nn.Linear(200, 100, dtype=torch.complex64), 2 / 300),
    ],
    ids=["conv 2-D", "conv 3-D", "linear"],
)
def test_first_weights_have_the_mean_square_of_the_real_law(layer, square):
    """sum |w|^2 / (square / 2) is chi-squared with 2 n degrees of freedom."""
    initialise_complex(layer)
    n = layer.weight.numel()
    total = layer.weight.abs().double().square().sum().item() / (square / 2)
    assert 1e-8 < stats.chi2.cdf(total, 2 * n) < 1 - 1e-8
    parts = torch.view_as_real(layer.weight.detach()).double()
    assert abs((parts[..., 0] * parts[..., 1]).mean().item()) < 6 * square / 2 / math.sqrt(n)
    assert not layer.bias.any()


LAYERS = {
    "conv, norm, ConjMish": [nn.Conv2d(2, 4, 3, padding=1, bias=False), ComplexGroupNorm(2, 4), ConjMish()],
    "bias, Cardioid, average": [nn.Conv2d(2, 4, 3), Cardioid(), PerPart(nn.AvgPool2d(2))],
    "IGaussian, magnitude pooling": [nn.Conv2d(2, 4, 3, stride=2, padding=1), IGaussian(), MagnitudeMaxPool(2)],
    "SeparableMish, linear": [nn.Linear(8, 6), SeparableMish(), ComplexGroupNorm(1, 2)],
}


def test_autocast_leaves_complex_layers_as_they_are():
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, dtype=torch.complex64), ConjMish(), nn.Flatten(), Magnitude(), nn.Unflatten(1, (4, 36)),
        AsComplex(), nn.Linear(36, 3, dtype=torch.complex64), Magnitude(),
    )  # fmt: skip
    x = torch.randn(3, 2, 8, 8, dtype=torch.complex64)
    plain = clipped_grad(model, lambda m, b: m(b).square().sum((1, 2)), x, max_norm=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16), no_fallback():
        cast = clipped_grad(model, lambda m, b: m(b).square().sum((1, 2)), x, max_norm=1.0)
    for name, value in plain.sum.items():
        torch.testing.assert_close(cast.sum[name], value, rtol=1e-5, atol=1e-6)


class AsComplex(nn.Module):
    def forward(self, x):
        return torch.complex(x, torch.ones_like(x))


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("units", [[0, 1, 2, 3, 4], [0, 0, 1, 1, 1]], ids=["records", "patients"])
def test_the_clipped_sum_is_that_of_a_loop_without_falling_back(layers, units):
    model = nn.Sequential(*layers, nn.Flatten(), Magnitude())
    for parameter in model.parameters():
        value = torch.randn(parameter.shape, dtype=torch.float64 if parameter.ndim == 3 else C128) / 2
        parameter.data = value
    batch = {"x": torch.randn(5, 2, 8, 8, dtype=C128)}
    with no_fallback():
        assert_is_the_loop(model, batch, torch.tensor(units), 1e-9)
