"""Minimal filtering beside the library's own weight gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.training.engine.winograd import MinimalFiltering

axes = st.lists(st.tuples(st.integers(3, 9), st.integers(0, 2)), min_size=1, max_size=3)


def pairs(sizes, rows, dtype=torch.float64):
    space, padding = zip(*sizes, strict=True)
    outer = [size + 2 * pad - 2 for size, pad in sizes]
    x = torch.randn(rows, 3, *space, dtype=dtype)
    return x, torch.randn(rows, 2, *outer, dtype=dtype), padding


def filtered(x, g, padding):
    out = x.new_full((*(3 for _ in padding), g.shape[1], x.shape[1]), torch.nan)
    filtering = MinimalFiltering(x[0], g[0], padding)
    for _ in range(2):  # the second finds the memory of the first
        filtering(x, g, out)
    return out.permute(-2, -1, *reversed(range(len(padding))))


def of_the_library(x, g, padding):
    ones, kernel = (1,) * len(padding), x.new_zeros(g.shape[1], x.shape[1], *(3 for _ in padding))
    options = (None, ones, padding, ones, False, (0,) * len(padding), 1, (False, True, False))
    return torch.ops.aten.convolution_backward(g, x, kernel, *options)[1]


@settings(deadline=None)
@given(axes, st.integers(1, 3), st.booleans())
def test_every_size_and_padding_gives_the_library_s_gradient(sizes, rows, channels_last):
    x, g, padding = pairs(sizes, rows)
    if channels_last:
        x, g = (t.movedim(1, -1).contiguous().movedim(-1, 1) for t in (x, g))
    torch.testing.assert_close(filtered(x, g, padding), of_the_library(x, g, padding), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_single_precision_loses_few_digits(ndim):
    """Error against the size of what is added up: sums of at most 2^ndim inputs and four points lose some bits more."""
    x, g, padding = pairs([(12, 1)] * ndim, 2, torch.float32)
    error = (filtered(x, g, padding) - of_the_library(x.double(), g.double(), padding)).abs()
    assert (error <= 2e-6 * of_the_library(x.double().abs(), g.double().abs(), padding)).all()
