"""Modules that `vmap` cannot take, run one record after the other inside an otherwise vectorised pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from reticent.training.engine.call import UnderVmap
from reticent.training.engine.replacing import parameters_replaced
from reticent.training.engine.tape import Tape


@contextmanager
def run_by_record(modules: Iterable[nn.Module], tape: Tape) -> Iterator[None]:
    """Within, each of these modules sees one record at a time, with the record's own copy of its parameters."""
    with ExitStack() as stack:
        for module in modules:
            stack.callback(_restore_forward, module, module.__dict__.get("forward"))
            module.forward = _Forward(module, module.forward, tape)
        yield


def failing_module(model: nn.Module, error: BaseException) -> nn.Module | None:
    """The innermost part of the model whose forward raised; None if that is the model itself or nothing of it."""
    parts, found, trace = set(model.modules()) - {model}, None, error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if isinstance(owner, nn.Module) and owner in parts:
            found = owner
        trace = trace.tb_next
    return found


def _restore_forward(module: nn.Module, own: Callable[..., Any] | None) -> None:
    del module.forward
    if own is not None:
        module.forward = own


class _Forward:
    """The forward of a module, for use under `vmap`."""

    def __init__(self, module: nn.Module, forward: Callable[..., Any], tape: Tape) -> None:
        self.module, self.forward, self.tape = module, forward, tape
        self.inputs: TreeSpec | None = None
        self.outputs: TreeSpec | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, self.inputs = tree_flatten((args, kwargs))
        made = _EachRecord.apply(self, self.tape.carrier, *leaves)
        assert self.outputs is not None
        return tree_unflatten(list(made), self.outputs)

    def each(self, records: int, axes: tuple[int | None, ...], leaves: tuple[Any, ...]) -> tuple[Tensor, ...]:
        """Outputs of every record, stacked."""
        assert self.inputs is not None
        held = {id(p) for part in self.module.modules() for p in part._parameters.values()}
        own = {name: raw for name, raw in self.tape.raw.items() if id(raw) in held}
        rows, made = {name: self.tape.make_rows(id(raw)) for name, raw in own.items()}, []
        for record in range(records):
            chosen = [v if axis is None else v.select(axis, record) for v, axis in zip(leaves, axes, strict=True)]
            args, kwargs = tree_unflatten(chosen, self.inputs)
            with parameters_replaced(self.module, own, {name: values[record] for name, values in rows.items()}):
                outputs, self.outputs = tree_flatten(self.forward(*args, **kwargs))
            made.append(outputs)
        return tuple(torch.stack(parts) for parts in zip(*made, strict=True))


class _EachRecord(UnderVmap):
    @staticmethod
    def vmap(info: Any, in_dims: Any, work: _Forward, carrier: Tensor, *leaves: Any) -> Any:
        made = work.each(info.batch_size, in_dims[2:], leaves)
        return made, (0,) * len(made)
