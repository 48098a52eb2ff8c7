"""Every native rule is the loop over units: float64 to 1e-9, float32 to 1e-4, 16 bits to a few of their own roundings.

The quick suite covers, for every rule and every use of layers, all pairs of values of all axes: the layer's options,
type, memory format, strategy, layout of units and memory cap. The slow suite takes every combination of the layer's
options, and every combination of the other axes.
"""

import itertools
from contextlib import ExitStack

import pytest
import torch
from layer_cases import RULES
from layer_uses import USES
from unit_loop import EXACT, assert_is_the_loop, no_fallback, pairwise

from reticent.training.engine import strategy

CASES = RULES | USES
UNITS = {
    "no record": [],
    "one record": [0],
    "two records": [0, 1],
    "a pair": [0, 0],
    "padding only": [-1, -1],
    "seven records": [0, 1, 2, 3, 4, 5, 6],
    "pairs": [0, 0, 1, 1, 2, 2],
    "unequal and scattered": [2, 0, 1, 0, 2, 3, 0],
    "padded": [2, -1, 1, 0, 2, -1, 0],
}
MEMORY_FORMATS = ("contiguous", "inputs", "inputs and weights")
"""Which tensors have their channels (or, other than images, their first axis) last in memory."""
MEMORY = (None, 1)
"""With a cap of one byte, every unit of several records is larger than a physical batch."""
ROUNDED = {"autocast": 2.0**-5, "bfloat16": 2.0**-5, "float16": 2.0**-7}
"""Activations of 8 (11) bits on both sides, rounded at different places: a few units in the last place of each."""
IMAGES = {4: torch.channels_last, 5: torch.channels_last_3d}


def run_axes(case):
    return {
        "dtype": case.dtypes,
        "memory_format": MEMORY_FORMATS,
        "way": case.strategies,
        "units": tuple(UNITS),
        "memory": MEMORY,
    }


def channels_last(tensor):
    if tensor.ndim in IMAGES:
        return tensor.contiguous(memory_format=IMAGES[tensor.ndim])
    return tensor.transpose(0, -1).contiguous().transpose(0, -1) if tensor.ndim > 1 else tensor


def records_of(case, shape, count, dtype):
    generator = torch.Generator().manual_seed(count)
    if case.tokens:
        return torch.randint(case.tokens, (count, *shape), generator=generator)
    return torch.randn(count, *shape, generator=generator, dtype=dtype)


def check(name, *, dtype, memory_format, way, units, memory, **options):
    torch.manual_seed(0)
    case = CASES[name]
    model, shape = case.build(**options)
    kind = torch.float32 if dtype == "autocast" else getattr(torch, dtype)
    model = model.to(kind)
    x = records_of(case, shape, len(UNITS[units]), kind)
    if memory_format != "contiguous":
        x = channels_last(x)
    if memory_format == "inputs and weights":
        for parameter in model.parameters():
            parameter.data = channels_last(parameter.data)
    with ExitStack() as stack:
        stack.enter_context(no_fallback())
        if dtype == "autocast":
            stack.enter_context(torch.autocast("cpu", torch.bfloat16))
        if way:
            stack.enter_context(strategy(way))
        tolerance = ROUNDED[dtype] if dtype in ROUNDED else EXACT[kind]
        units = torch.tensor(UNITS[units], dtype=torch.long)
        assert_is_the_loop(model, {"x": x}, units, tolerance, memory=memory)


def covering(name):
    case = CASES[name]
    return pairwise(dict(case.options) | run_axes(case))


def label(row):
    return ", ".join(str(value) for value in row.values())


@pytest.mark.parametrize(
    ("name", "row"),
    [pytest.param(name, row, id=f"{name}: {label(row)}") for name in CASES for row in covering(name)],
)
def test_it_is_the_loop_for_all_pairs_of_options(name, row):
    check(name, **row)


def products(axes):
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_it_is_the_loop_for_every_combination_of_a_layers_options(name):
    case = CASES[name]
    runs = itertools.cycle(pairwise(run_axes(case)))
    for options, run in zip(products(case.options), runs, strict=False):
        check(name, **options, **run)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_it_is_the_loop_for_every_combination_of_the_other_axes(name):
    case = CASES[name]
    options = itertools.cycle(pairwise(case.options) if len(case.options) > 1 else products(case.options))
    for run, chosen in zip(products(run_axes(case)), options, strict=False):
        check(name, **chosen, **run)
