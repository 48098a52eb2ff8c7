"""Every unit's gradient in one batch, a physical batch at a time: vectorised, or one unit after another."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from reticent.errors import first_line
from reticent.training.engine.batches import BatchAdapter, Part, Records, TreeAdapter
from reticent.training.engine.by_record import failing_module
from reticent.training.engine.contributions import Contribution, Kept
from reticent.training.engine.footprint import Footprint, footprint
from reticent.training.engine.independence import PROBED, check_independence
from reticent.training.engine.interception import Detours, plainly, record_losses
from reticent.training.engine.tape import BypassedError, EscapedError, Tape
from reticent.training.engine.workspace import Workspace

LossFn = Callable[[nn.Module, Any], "Tensor | tuple[Tensor, Any]"]
Found = tuple[Part, dict[str, Contribution], Tensor]
_DOOR = 7
"""Frames between a warning and the caller of `clipped_grad`."""


@dataclass
class _Known:
    """What earlier passes found out about a model."""

    detours: Detours = field(default_factory=Detours)
    vectorisable: bool = True
    checked: set[object] = field(default_factory=set)
    warned: set[str] = field(default_factory=set)


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

    def __post_init__(self) -> None:
        self.known = _KNOWN.setdefault(self.model, _Known())
        if not hasattr(_OF_THREAD, "workspaces"):
            _OF_THREAD.workspaces = WeakKeyDictionary()
        self.workspace = _OF_THREAD.workspaces.setdefault(self.model, Workspace())

    def parts(self, records: Records) -> Iterator[Found]:
        """Yield (part, contributions by parameter, loss of each row); contributions are good until the next one."""
        if not len(records.rows):
            return
        self._check(records.rows)
        on_cpu = next(iter(self.params.values())).device.type == "cpu"
        for part in records.parts(self._footprint(records.rows[:1]).at_once(self.memory, on_cpu=on_cpu)):
            yield from self._found(part)
            self.workspace.release()
        self.workspace.forget_unused()

    def _found(self, part: Part) -> Iterator[Found]:
        """Nothing of it outlives its turn: the next part needs the memory."""
        found = self._vectorised(part)
        return iter([found]) if found else map(self._alone, part.single())

    def _footprint(self, row: Tensor) -> Footprint:
        """Measured on one record, without checkpoints, as the passes run."""
        first = self.reader.select(self.batch, row)
        with plainly():
            return footprint(self.model, lambda record: self._losses(self.model, record), first)

    def _losses(self, model: nn.Module, batch: Any) -> Tensor:
        result = self.loss_fn(model, batch)
        return result[0] if isinstance(result, tuple) else result

    def _check(self, rows: Tensor) -> None:
        """Look for coupled records once for each model and loss."""
        loss = getattr(self.loss_fn, "__code__", self.loss_fn)
        if loss not in self.known.checked and len(rows) > 1:
            with plainly():
                some = self.reader.select(self.batch, rows[:PROBED])
                check_independence(self.model, some, self._losses, adapter=self.reader)
            self.known.checked.add(loss)

    def _vectorised(self, part: Part) -> Found | None:
        batch, detours = self.reader.select(self.batch, part.rows), self.known.detours
        while isinstance(self.reader, TreeAdapter) and self.known.vectorisable:
            tape = Tape(self.params, part.units, self.memory, self.workspace.empty)
            try:
                losses = record_losses(self.model, self._losses, batch, tape, detours)
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

    def _alone(self, part: Part) -> Found:
        with plainly():
            losses = self._losses(self.model, self.reader.select(self.batch, part.rows))
        gradients = torch.autograd.grad(losses.sum() * self.share, list(self.params.values()), allow_unused=True)
        contributions: dict[str, Contribution] = {
            name: Kept([(torch.zeros_like(p) if g is None else g)[None]])
            for (name, p), g in zip(self.params.items(), gradients, strict=True)
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
            f"{who} cannot be vectorised over records ({first_line(error)}); {how}, exact but slower", stacklevel=_DOOR
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
            stacklevel=_DOOR,
        )
