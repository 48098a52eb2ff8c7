"""The clipped sum by its definition, a loop over units with ordinary autograd; rows that cover pairs of options."""

from __future__ import annotations

import itertools
import math
import warnings
from collections import Counter
from contextlib import contextmanager

import torch

from reticent.training import clipped_grad

EXACT = {torch.float64: 1e-9, torch.complex128: 1e-9, torch.float32: 1e-4, torch.complex64: 1e-4}
NOT_NATIVE = ".*(no native rule|cannot be vectorised).*"


def weighted_outputs(model, batch):
    """One loss a record with an own slope at every output, so that no gradient is zero or alike by symmetry."""
    y = model(batch["x"]).flatten(1)
    y = torch.cat([y.real, y.imag], 1) if y.is_complex() else y
    y = y if y.dtype == torch.float64 else y.float()
    slopes = torch.linspace(1, 3, y.shape[1], dtype=y.dtype).square().sin()
    return (y * slopes + 0.5 * y.square()).mean(1)


def unit_gradients(model, loss_fn, batch, units):
    """The gradient of each unit, by name of the parameter."""
    params = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = []
    for unit in range(int(units.max()) + 1 if len(units) else 0):
        rows = units == unit
        if rows.any():
            loss_fn(model, {name: value[rows] for name, value in batch.items()}).sum().backward()
        found.append({name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in params.items()})
        model.zero_grad()
    return found


def norm_of(tensors):
    """Norm of all tensors together, in float64."""
    return math.sqrt(sum(t.abs().double().square().sum().item() for t in tensors))


def clipped_sum(gradients, max_norm):
    """Each unit's gradient clipped and added up, in double precision."""
    total = {}
    for gradient in gradients:
        norm = norm_of(gradient.values())
        factor = min(1.0, max_norm / norm) if norm else 1.0
        for name, g in gradient.items():
            total[name] = total.get(name, 0) + factor * g.to(torch.complex128 if g.is_complex() else torch.float64)
    return total


def relative_error(found, expected):
    """Norm of the difference over the norm of what is expected."""
    return norm_of(found[name] - expected[name] for name in expected) / max(norm_of(expected.values()), 1e-30)


@contextmanager
def no_fallback():
    """Fails where a parameter goes without a native rule, or a model record by record."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=NOT_NATIVE)
        yield


def assert_is_the_loop(model, batch, units, tolerance, *, loss_fn=weighted_outputs, memory=None):
    """Sum, norms and losses are those of the loop, with about half of the units clipped."""
    with torch.compiler.set_stance("force_eager"):
        gradients = unit_gradients(model, loss_fn, batch, units)
        losses = loss_fn(model, batch).detach() if len(units) else torch.zeros(0)
    norms = torch.tensor([norm_of(g.values()) for g in gradients], dtype=torch.float64)
    present = norms[norms > 0]
    max_norm = float(present.median()) if len(present) else 1.0
    result = clipped_grad(model, loss_fn, batch, max_norm=max_norm, units=units, memory=memory)
    assert result.sum.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    if not len(present):
        assert not norm_of(result.sum.values())
        return
    assert (norms[norms > 0] > 0).all()
    assert relative_error(result.sum, clipped_sum(gradients, max_norm)) <= tolerance
    rtol = max(tolerance, 1e-6)  # norms and losses are reported in float32
    torch.testing.assert_close(result.norms.double(), norms, rtol=rtol, atol=0)
    known = units >= 0
    torch.testing.assert_close(result.losses[known].double(), losses[known].double(), rtol=rtol, atol=rtol)


def pairwise(axes):
    """Rows of one value for each axis, in which any two values of two axes meet; greedy, the same every time."""
    names, used, rows = list(axes), Counter(), []
    places = {
        (first, i, second, j)
        for first, second in itertools.combinations(range(len(names)), 2)
        for i in range(len(axes[names[first]]))
        for j in range(len(axes[names[second]]))
    }
    waiting = dict.fromkeys(sorted(places))
    while waiting:
        first, i, second, j = next(iter(waiting))
        row = {first: i, second: j}
        for axis in sorted(set(range(len(names))) - row.keys(), key=lambda axis: -len(axes[names[axis]])):
            row[axis] = max(
                range(len(axes[names[axis]])),
                key=lambda value, axis=axis: (
                    sum(_pair(axis, value, *other) in waiting for other in row.items()),
                    -used[axis, value],
                ),
            )
        for one, other in itertools.combinations(row.items(), 2):
            waiting.pop(_pair(*one, *other), None)
        used.update(row.items())
        rows.append({name: axes[name][row[place]] for place, name in enumerate(names)})
    return rows


def _pair(axis, value, other_axis, other_value):
    one, other = (axis, value), (other_axis, other_value)
    return (*one, *other) if axis < other_axis else (*other, *one)
