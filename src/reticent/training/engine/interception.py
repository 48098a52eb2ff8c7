"""Runs a model record by record under `vmap`, with layer calls taken over by native rules on all rows at once.

`vmap` guarantees that no record sees another, whatever the model does; the rules make it fast.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from types import FunctionType
from typing import Any
from weakref import WeakSet

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.func import vmap
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from reticent.training.engine.by_record import run_by_record
from reticent.training.engine.call import Inputs, on_rows
from reticent.training.engine.replacing import parameters_replaced
from reticent.training.engine.rules import COMPOSITIONS, OF_DATA, RULES
from reticent.training.engine.rules.convolution import FUNCTIONS, complex_convolution
from reticent.training.engine.tape import Tape

Losses = Callable[[nn.Module, Any], Tensor]


@dataclass
class Detours:
    """What was found out about a model: parts of it that the fast way does not suit."""

    parameters: set[str] = field(default_factory=set)
    """Parameters that go through the general path from the start."""
    modules: WeakSet[nn.Module] = field(default_factory=WeakSet)
    """Modules that run record by record."""


def record_losses(model: nn.Module, losses: Losses, batch: Any, tape: Tape, detours: Detours) -> Tensor:
    """Loss of each record of a physical batch (rows first), with what the tape needs for every unit's gradient."""

    def one(record: Any, carrier: Tensor) -> Tensor:
        tape.carrier = carrier
        values = {name: tape.expanded(raw) if name in detours.parameters else raw for name, raw in tape.raw.items()}
        with parameters_replaced(model, tape.own, values), run_by_record(detours.modules, tape), Interceptor(tape):
            return losses(model, tree_map(lambda leaf: leaf.unsqueeze(0), record)).reshape(())

    with plainly():
        return vmap(one, randomness="different")(batch, torch.zeros(tape.units.rows))


class Interceptor(TorchFunctionMode):
    """Sees every function that tensors go into, and decides what happens to those that parameters go into."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = list(_tensors((args, kwargs)))
        if not any(self.tape.is_tracked(t) for t in tensors):
            return OF_DATA.get(func, func)(*args, **kwargs)
        if func in COMPOSITIONS:
            with self:
                return COMPOSITIONS[func](*args, **kwargs)
        if func in FUNCTIONS and args[0].is_complex():
            with self:
                return complex_convolution(func, *args, **kwargs)
        if func in RULES and (found := RULES[func](Inputs(self.tape, args, kwargs))):
            return on_rows(*found)
        if isinstance(func, FunctionType) and func.__module__ in ("torch.nn.functional", "torch.functional"):
            with self:
                return _unguarded(func)(*args, **kwargs)
        if all(self.tape.is_tracked(t) or self.tape.is_constant(t) for t in tensors):
            return self._made_of_parameters(func, args, kwargs, tensors)
        self.tape.note_general(func, tensors)
        return OF_DATA.get(func, func)(*self._expanded(args), **self._expanded(kwargs))

    def _expanded(self, tree: Any) -> Any:
        return tree_map(lambda v: self.tape.expanded(v) if self.tape.is_tracked(v) else v, tree)

    def _made_of_parameters(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], tensors: list[Tensor]
    ) -> Any:
        made = func(*args, **kwargs)
        for value in _tensors(made):
            self.tape.track(value, tensors)
        return made


def _tensors(tree: Any) -> Iterator[Tensor]:
    """Tensors in nested tuples, lists and dictionaries."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, tuple | list):
        for branch in tree:
            yield from _tensors(branch)
    elif isinstance(tree, dict):
        yield from _tensors(tuple(tree.values()))


@lru_cache
def _unguarded(func: FunctionType) -> Callable[..., Any]:
    """A library function written in Python, without its hand-over to `__torch_function__`: its calls are seen."""
    apart = {name: _never for name in func.__globals__ if name.startswith("has_torch_function")}
    copy = FunctionType(
        func.__code__, {**func.__globals__, **apart}, func.__name__, func.__defaults__, func.__closure__
    )
    copy.__kwdefaults__ = func.__kwdefaults__
    return copy


def _never(*_: Any) -> bool:
    return False


@contextmanager
def plainly() -> Iterator[None]:
    """Compiled models run as written, and checkpointed blocks without checkpoints: both hide the calls inside."""
    with ExitStack() as stack:
        torch._C._functorch._set_vmap_fallback_warning_enabled(False)  # type: ignore[attr-defined]
        stack.callback(torch._C._functorch._set_vmap_fallback_warning_enabled, True)  # type: ignore[attr-defined]
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and importing it takes a second
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(_replaced(torch.utils.checkpoint.CheckpointFunction, "apply", _run_now))
        stack.enter_context(
            _replaced(torch.utils.checkpoint, "_checkpoint_without_reentrant_generator", _no_checkpoint)
        )
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    own = owner.__dict__.get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


def _run_now(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
    return function(*args)


def _no_checkpoint(*args: Any, **kwargs: Any) -> Iterator[None]:
    yield
