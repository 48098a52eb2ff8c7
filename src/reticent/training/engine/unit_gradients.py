"""Every unit's gradient in one batch, a physical batch at a time: vectorised, or one unit after another."""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from reticent.errors import first_line
from reticent.training.engine.batches import BatchAdapter, Part, Records, TreeAdapter
from reticent.training.engine.by_record import failing_module
from reticent.training.engine.contributions import Contribution, Kept
from reticent.training.engine.footprint import DEFAULT_MEMORY, Footprint, activation_bytes
from reticent.training.engine.independence import PROBED, check_independence
from reticent.training.engine.interception import Detours, plainly, record_losses
from reticent.training.engine.replacing import parameters_replaced
from reticent.training.engine.strategies import default_strategy
from reticent.training.engine.tape import BypassedError, EscapedError, Tape
from reticent.training.engine.units import Units
from reticent.training.engine.workspace import Workspace

LossFn = Callable[[nn.Module, Any], "Tensor | tuple[Tensor, Any]"]
Found = tuple[Part, dict[str, Contribution], Tensor]


@dataclass
class _Known:
    """What earlier passes found out about a model."""

    detours: Detours = field(default_factory=Detours)
    vectorisable: bool = True
    checked: set[object] = field(default_factory=set)
    warned: set[str] = field(default_factory=set)
    footprints: dict[object, Footprint] = field(default_factory=dict)


_KNOWN: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()
_OF_THREAD = threading.local()


@dataclass
class UnitGradients:
    """Gradients of the units of one batch; `share` multiplies every loss."""

    model: nn.Module
    loss_fn: LossFn
    batch: Any
    params: dict[str, Tensor]
    reader: BatchAdapter
    share: float
    memory: int
    each: Footprint | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.known = _KNOWN.setdefault(self.model, _Known())
        if not hasattr(_OF_THREAD, "workspaces"):
            _OF_THREAD.workspaces = WeakKeyDictionary()
        self.workspace = _OF_THREAD.workspaces.setdefault(self.model, Workspace())

    def parts(self, records: Records, held: int = 0) -> Iterator[Found]:
        """Yield (part, contributions by parameter, loss of each row); contributions are good until the next one.

        The caller will hold as many more bytes for every row.
        """
        if not len(records.rows):
            return
        self._check(records.rows)
        on_cpu = next(iter(self.params.values())).device.type == "cpu"
        measured = self.footprint(records.rows[:1])
        self.each = replace(measured, kept=measured.kept + held)
        for part in records.parts(self.each.at_once(self.memory, on_cpu=on_cpu)):
            yield from self._found(part)
            self.workspace.release()
        self.workspace.forget_unused()

    def footprint(self, row: Tensor) -> Footprint:
        """Measured on one record, as the passes run; known again for another one of its shapes."""
        record = self.reader.select(self.batch, row)
        shapes = tuple((tuple(t.shape), t.dtype) for t in tree_leaves(record) if isinstance(t, Tensor))
        key = (shapes, tuple(self.params))
        if key not in self.known.footprints:
            params, part = list(self.params.values()), Part(row, Units((1,)), torch.zeros(1, dtype=torch.long))
            with torch.random.fork_rng():
                with plainly():
                    activations = activation_bytes(lambda record: self.losses(self.model, record), record, params)
                with default_strategy():
                    kept = [c.nbytes for _, found, _ in self._found(part) for c in found.values()]
            self.workspace.release()
            self.known.footprints[key] = Footprint(activations, sum(kept))
        return self.known.footprints[key]

    def _room(self, rows: int) -> int:
        """Bytes for gradients beside the activations of a physical batch, once these were counted."""
        return self.memory - (self.each.passing * rows if self.each else 0)

    def _found(self, part: Part) -> Iterator[Found]:
        """Nothing of it outlives its turn: the next part needs the memory."""
        found = self._vectorised(part)
        return iter([found]) if found else map(self.alone, part.single())

    @property
    def vectorisable(self) -> bool:
        """Whether records are known by the first axis of every tensor, and no pass over several failed so far."""
        return isinstance(self.reader, TreeAdapter) and self.known.vectorisable

    def losses(self, model: nn.Module, batch: Any) -> Tensor:
        """Loss of each record of a batch."""
        result = self.loss_fn(model, batch)
        return result[0] if isinstance(result, tuple) else result

    def _check(self, rows: Tensor) -> None:
        """Look for coupled records once for each model and loss."""
        loss = getattr(self.loss_fn, "__code__", self.loss_fn)
        if loss not in self.known.checked and len(rows) > 1:
            with plainly():
                some = self.reader.select(self.batch, rows[:PROBED])
                check_independence(self.model, some, self.losses, adapter=self.reader)
            self.known.checked.add(loss)

    def _vectorised(self, part: Part) -> Found | None:
        batch, detours = self.reader.select(self.batch, part.rows), self.known.detours
        while self.vectorisable:
            tape = Tape(self.params, part.units, self._room(len(part.rows)), self.workspace.empty)
            try:
                losses = record_losses(self.model, self.losses, batch, tape, detours)
            except (RuntimeError, NotImplementedError) as error:
                self._detour(error)
                continue
            try:
                with torch.autocast(losses.device.type, enabled=False):
                    contributions = tape.collect(losses, self.share)
            except BypassedError as bypassed:
                detours.parameters.update(bypassed.names)
                continue
            except EscapedError as error:
                self._detour(error)
                continue
            self._warn_general(tape)
            return part, contributions, losses.detach()
        return None

    def alone(self, part: Part, values: dict[str, Tensor] | None = None) -> Found:
        """Of a part of one unit, by an ordinary backward pass; at `values` in the place of the parameters."""
        values = values or self.params
        with plainly(), parameters_replaced(self.model, self.params, values):
            losses = self.losses(self.model, self.reader.select(self.batch, part.rows))
        gradients = torch.autograd.grad(
            losses.sum() * self.share, list(values.values()), allow_unused=True, materialize_grads=True
        )
        contributions: dict[str, Contribution] = {
            name: Kept([g[None]]) for name, g in zip(values, gradients, strict=True)
        }
        return part, contributions, losses.detach()

    def _detour(self, error: Exception) -> None:
        module = failing_module(self.model, error)
        if module is None or module in self.known.detours.modules:
            self.known.vectorisable = False
            who, how = type(self.model).__name__, "taking one backward pass per unit"
        else:
            self.known.detours.modules.add(module)
            names = [name for name, part in self.model.named_modules() if part is module]
            who, how = f"{names[0]!r} ({type(module).__name__})", "running it record by record"
        warnings.warn(
            f"{who} cannot be vectorised over records ({first_line(error)}); {how}, exact but slower",
            stacklevel=_frames_inside(),
        )

    def _warn_general(self, tape: Tape) -> None:
        fresh = {name: function for name, function in tape.general.items() if name not in self.known.warned}
        if not fresh:
            return
        self.known.warned.update(fresh)
        name, function = next(iter(fresh.items()))
        owner = type(self.model.get_submodule(name.rpartition(".")[0])).__name__
        others = f" and {len(fresh) - 1} more" if len(fresh) > 1 else ""
        warnings.warn(
            f"{name!r} ({owner}){others} goes into {function}(), which has no native rule; its gradient is made for "
            "every record, exact but slower",
            stacklevel=_frames_inside(),
        )


def _frames_inside() -> int:
    """How far up the caller of this package is: the `stacklevel` of a warning to its caller's caller."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals["__name__"].startswith(__package__):
        level, frame = level + 1, frame.f_back
    return level - 1


def footprint(model: nn.Module, loss_fn: LossFn, batch: Any) -> Footprint:
    """What a record of this batch (record axis first) takes in `clipped_grad`."""
    params: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return UnitGradients(model, loss_fn, batch, params, TreeAdapter(), 1.0, DEFAULT_MEMORY).footprint(torch.arange(1))
