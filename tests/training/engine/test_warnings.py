"""What has no native rule is exact all the same; the user is told once, with the name of what is slow."""

import re
import warnings

import pytest
import torch
from layer_uses import Forward
from torch import nn
from unit_loop import EXACT, NOT_NATIVE, assert_is_the_loop, no_fallback, weighted_outputs

from reticent.errors import InputError
from reticent.training import clipped_grad

EINSUM = {
    "the parameter itself": lambda m, x: torch.einsum("bk,kp->bp", x, m.mixing.weights),
    "a value made of it": lambda m, x: torch.einsum("bk,kp->bp", x, m.mixing.weights.tanh()),
    "a value made of two": lambda m, x: torch.einsum("bk,kp->bp", x, m.mixing.weights * m.small),
}


def mixing(forward):
    holder = nn.Module()
    holder.weights = nn.Parameter(torch.randn(128, 128) / 10)
    return Forward(forward, mixing=holder, small=nn.Parameter(torch.ones(128)))


def messages(model, batch, units):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert_is_the_loop(model, batch, units, EXACT[torch.float64])
    texts = [str(warning.message) for warning in caught]
    return [text for text in texts if re.match(NOT_NATIVE, text)]


@pytest.mark.parametrize("forward", EINSUM.values(), ids=EINSUM)
def test_a_large_parameter_without_a_rule_is_named_once(forward):
    torch.manual_seed(0)
    model, units = mixing(forward).double(), torch.tensor([0, 1, 1])
    batch = {"x": torch.randn(3, 128, dtype=torch.float64)}
    (message,) = messages(model, batch, units)
    assert "'mixing.weights' (Module) goes into einsum()" in message
    assert not messages(model, batch, units)


def test_a_small_parameter_without_a_rule_is_not_worth_a_word():
    torch.manual_seed(0)
    model = Forward(lambda m, x: torch.einsum("bk,kp->bp", x, m.p), p=nn.Parameter(torch.randn(8, 8))).double()
    with no_fallback():
        assert_is_the_loop(model, {"x": torch.randn(3, 8, dtype=torch.float64)}, torch.arange(3), 1e-9)


class Branches(nn.Module):
    """Looks at values, which no vectorisation can."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2)

    def forward(self, x):
        y = self.norm(self.conv(x))
        return y if y.mean().item() < 1e9 else -y


class Opaque(torch.autograd.Function):
    """An old-style function that knows nothing of `vmap`."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x * weight

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        return g * weight, (g * x).sum(0)


def with_own_gradient(m, x):
    """An energy's gradient by its input, as in score networks and gradient penalties."""
    h = m.first(x)
    (slope,) = torch.autograd.grad(m.second(h.tanh()).sum(), h, create_graph=True)
    return slope


NOT_VECTORISABLE = {
    "gradients inside the forward pass": (
        lambda: Forward(with_own_gradient, first=nn.Linear(4, 3), second=nn.Linear(3, 2)), (4,)
    ),
    "control flow": (Branches, (1, 5, 5)),
    "an old-style function": (
        lambda: Forward(lambda m, x: Opaque.apply(x.tanh(), m.p), p=nn.Parameter(torch.randn(4))), (4,)
    ),
    "an LSTM with projections": (
        lambda: Forward(lambda m, x: m.lstm(x)[0], lstm=nn.LSTM(3, 4, proj_size=2, batch_first=True)), (5, 3)
    ),
}  # fmt: skip


@pytest.mark.parametrize("memory", [None, 1])
@pytest.mark.parametrize(("build", "shape"), NOT_VECTORISABLE.values(), ids=NOT_VECTORISABLE)
def test_what_cannot_be_vectorised_is_exact_and_told_once(build, shape, memory):
    torch.manual_seed(0)
    model, units = build().double(), torch.tensor([2, 0, 1, 0, -1])
    batch = {"x": torch.randn(5, *shape, dtype=torch.float64)}
    with pytest.warns(UserWarning, match="cannot be vectorised over records"):
        assert_is_the_loop(model, batch, units, 1e-9, memory=memory)
    with no_fallback():
        assert_is_the_loop(model, batch, units, 1e-9, memory=memory)


REFUSED = {
    "max_norm": (nn.Embedding(5, 3, max_norm=1.0), "max_norm=None|written during the forward"),
    "scale_grad_by_freq": (nn.Embedding(5, 3, scale_grad_by_freq=True), "scale_grad_by_freq"),
}


@pytest.mark.parametrize(("layer", "message"), REFUSED.values(), ids=REFUSED)
def test_embeddings_that_couple_or_rewrite_records_are_refused(layer, message):
    with pytest.raises(InputError, match=message):
        clipped_grad(layer, weighted_outputs, {"x": torch.randint(5, (3, 4))}, max_norm=1.0)


def test_the_pattern_for_fallbacks_fits_the_warning():
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match=NOT_NATIVE):
        clipped_grad(Branches(), weighted_outputs, {"x": torch.randn(2, 1, 5, 5)}, max_norm=1.0)
