"""The complex classifier: shapes, independence of records, and that it sees phase."""

import math

import pytest
import torch
from torch import nn
from unit_loop import assert_is_the_loop, no_fallback

from reticent.errors import InputError
from reticent.models import ComplexClassifier, LogMagnitude, build_model, kspace
from reticent.training import check_independence
from reticent.training.real_coordinates import dimension, wide_dtype


def size_of(model):
    return sum(dimension(p) for p in model.parameters())


@pytest.mark.parametrize(
    ("channels", "size"), [(1, (8, 8)), (1, (28, 28)), (3, (64, 48)), (1, (224, 224)), (2, (16, 20, 24))], ids=str
)
@pytest.mark.parametrize("domain", ["kspace", "image"])
def test_images_and_volumes_give_real_logits(channels, size, domain):
    model = build_model(
        "complex", spatial_dims=len(size), in_channels=channels, out_channels=4, image_size=size,
        arguments={"domain": domain},
    )  # fmt: skip
    logits = model(torch.randn(2, channels, *size))
    assert (logits.shape, logits.dtype) == ((2, 4), torch.float32)
    assert 1e4 < size_of(model) < 3e5


def test_numbers_of_parameters_are_those_of_the_layers():
    """Complex ones twice: convolutions 1-16, 16-32, 32-64; 4 + 2 for each channel of a norm; the real head."""
    model = ComplexClassifier(2, 1, 3, (28, 28))
    assert size_of(model) == 2 * 9 * (16 + 16 * 32 + 32 * 64) + 6 * (16 + 32 + 64) + (64 * 9 + 1) * 3


def test_the_domains_differ_by_the_fourier_transform_and_its_logarithm():
    torch.manual_seed(0)
    model, x = ComplexClassifier(2, 1, 3, (16, 16), width=4), torch.randn(2, 1, 16, 16)
    inner = ComplexClassifier(2, 1, 3, (16, 16), width=4, domain="image")
    inner.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(x), inner(LogMagnitude()(kspace(x))))
    torch.testing.assert_close(inner(x), inner(torch.complex(x, torch.zeros_like(x))))


def test_an_unknown_domain_is_refused():
    with pytest.raises(InputError, match="use kspace or image"):
        ComplexClassifier(2, 1, 3, (16, 16), domain="wavelet")


@pytest.mark.parametrize("size", [(16, 16), (8, 8, 8)], ids=str)
def test_no_record_touches_another_and_the_clipped_sum_is_that_of_a_loop(size):
    torch.manual_seed(0)
    model = ComplexClassifier(len(size), 1, 3, size, width=4)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(wide_dtype(parameter))
    x = torch.randn(4, 1, *size, dtype=torch.float64)
    check_independence(model, x)
    jacobian = torch.autograd.functional.jacobian(model, x).abs().flatten(3).sum((1, 3))
    assert (jacobian[~torch.eye(4, dtype=torch.bool)] == 0).all()
    assert (jacobian.diagonal() > 0).all()
    with no_fallback():
        assert_is_the_loop(model, {"x": x}, torch.tensor([0, 1, 1, 2]), 1e-9)


def phase_ramps(count, side=16):
    """Random magnitudes and offsets; the sign of a phase ramp along one axis is the label."""
    label = torch.randint(2, (count,))
    magnitude = (1 + 0.5 * torch.randn(count, 1, side, side)).abs()
    slope = (2 * label - 1) * math.pi / 4 + 0.1 * torch.randn(count)
    phase = slope[:, None] * torch.arange(side) + 2 * math.pi * torch.rand(count, 1)
    return magnitude * torch.exp(1j * phase)[:, None, None, :], label


def accuracy(x, label):
    """Of a network trained on the first half, on the second."""
    torch.manual_seed(1)
    model, half = ComplexClassifier(2, 1, 2, (16, 16), width=4, domain="image"), len(x) // 2
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(60):
        rows = torch.arange(step * 40, step * 40 + 40) % half
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), label[rows]).backward()
        optimiser.step()
    with torch.no_grad():
        return (model(x[half:]).argmax(1) == label[half:]).float().mean().item()


def test_a_class_that_is_in_the_phase_alone_is_seen_with_phase_and_not_without():
    """Without phase the 600 answers are coin tosses: farther than 0.11 from half with probability < 1e-7."""
    torch.manual_seed(0)
    z, label = phase_ramps(1200)
    assert accuracy(z, label) > 0.95
    assert accuracy(z.abs(), label) == pytest.approx(0.5, abs=0.11)
