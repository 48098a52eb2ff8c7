"""The state of one pass over a physical batch: which tensors are parameters, and what every unit gave to each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from reticent.training.engine import plans
from reticent.training.engine.call import Lift
from reticent.training.engine.contributions import Contribution, Factors, Kept
from reticent.training.engine.rules.linear import LinearFactors, merge
from reticent.training.engine.units import Units
from reticent.training.engine.workspace import Empty

_LARGE = 2**14
"""Elements from which an own gradient for every record is slow and large enough to tell the user."""
_CHEAP = {
    *("add", "add_", "__add__", "__radd__", "__iadd__", "sub", "__sub__", "__rsub__", "mul", "mul_", "__mul__"),
    *("__rmul__", "__imul__", "div", "__truediv__", "cat", "concat", "where", "stack", "prelu"),
}
"""Functions in which every element of the parameter meets one of the data: nothing is lost."""


class Tape:
    """Parameters, and values made from parameters alone, are *tracked*: each collects its own units' gradients."""

    def __init__(self, params: Mapping[str, Tensor], units: Units, room: int, empty: Empty) -> None:
        self.units, self.room, self.own, self.empty = units, room, params, empty
        self.anchor = torch.zeros((), requires_grad=True)
        self.raw = {name: p.detach().requires_grad_() for name, p in params.items()}
        self.carrier: Tensor | None = None
        self.general: dict[str, str] = {}
        """Large parameters that went into a function without a rule, and the function's name; for the warning."""
        self._tracked = {id(t): t for t in self.raw.values()}
        self._names = {id(t): name for name, t in self.raw.items()}
        self._origins = dict(self._names)
        self._versions: list[tuple[Tensor, int]] = []
        self._uses: dict[int, int] = defaultdict(int)
        self._waiting: dict[int, list[Factors]] = defaultdict(list)
        self._done: dict[int, list[Contribution]] = defaultdict(list)
        self._rows: dict[int, Tensor] = {}
        self._lifted: dict[int, Tensor] = {}

    def is_tracked(self, value: Any) -> bool:
        """Whether this is a parameter, or made from parameters alone."""
        return id(value) in self._tracked

    def is_constant(self, value: Any) -> bool:
        """Whether this is the same for all records and not trained."""
        return not (value.requires_grad or torch._C._functorch.is_batchedtensor(value))

    def track(self, value: Any, made_of: list[Tensor]) -> None:
        """Take note of a value made from tracked ones alone."""
        if isinstance(value, Tensor) and value.requires_grad:
            origin = next(self._origins[id(t)] for t in made_of if self.is_tracked(t))
            self._tracked[id(value)], self._origins[id(value)] = value, origin
            self._versions.append((value, value._version))

    def count_use(self, tracked: Tensor) -> None:
        """A native call uses this value; its gradients are complete when as many parts arrived."""
        self._uses[id(tracked)] += 1

    def expanded(self, tracked: Tensor) -> Tensor:
        """The value with an own copy for every record (no memory): the general path for functions without a rule."""
        key = id(tracked)
        if key not in self._lifted:
            assert self.carrier is not None
            self._lifted[key] = Lift.apply(self.carrier, self, key)
        return self._lifted[key]

    def note_general(self, func: Any, tensors: list[Tensor]) -> None:
        """A function without a rule takes parameters beside data; large ones are worth a warning."""
        function = getattr(func, "__name__", str(func))
        if function in _CHEAP:
            return
        for tensor in tensors:
            if self.is_tracked(tensor) and tensor.numel() >= _LARGE:
                self.general.setdefault(self._origins[id(tensor)], function)

    def make_rows(self, key: int) -> Tensor:
        """One copy for every row of a tracked value, as a leaf of the graph; to be called below `vmap`."""
        if key not in self._rows:
            value = self._tracked[key].detach()
            self._rows[key] = value.expand(self.units.rows, *value.shape).requires_grad_()
        return self._rows[key]

    def add_factors(self, tracked: Tensor, factors: Factors) -> None:
        """Part of a value's gradient; multiplied out at once if it is the only one."""
        key = id(tracked)
        if self._uses[key] == 1 and key in self._names and key not in self._rows:
            self._keep(key, plans.contribution(factors, self.room, self.empty))
        else:
            self._waiting[key].append(factors)

    def add_gradients(self, tracked: Tensor, gradients: Tensor) -> None:
        """Part of a value's gradient, already one for each unit."""
        self._keep(id(tracked), Kept([gradients]))

    def _keep(self, key: int, contribution: Contribution) -> None:
        self._done[key].append(contribution)
        self.room -= contribution.nbytes

    def collect(self, losses: Tensor, share: float) -> dict[str, Contribution]:
        """Run the backward of the summed losses; what every unit contributes to each parameter, in whose order.

        Raises:
            BypassedError: an operation took a parameter past the interception, or wrote into what is made of them.
            EscapedError: the loss depends on a parameter of the user's own, not on what stood in its place.
        """
        if any(value._version != version for value, version in self._versions):
            raise BypassedError(list(self.raw))
        if losses.requires_grad:
            rows, raw = list(self._rows.values()), list(self.raw.values())
            own = [p for p in self.own.values() if p.requires_grad]
            found = torch.autograd.grad(losses.sum() * share, [self.anchor, *rows, *raw, *own], allow_unused=True)
            if any(g is not None for g in found[1 + len(rows) + len(raw) :]):
                raise EscapedError("a parameter is used that the model does not hold where it was registered")
            past = [name for name, g in zip(self.raw, found[1 + len(rows) :][: len(raw)], strict=True) if g is not None]
            if past:
                raise BypassedError(past)
            for key, g in zip(self._rows, found[1 : 1 + len(rows)], strict=True):
                if g is not None:
                    self._keep(key, Kept([self.units.sum(g)]))
        with torch.no_grad():
            self._multiply_out()
            self._pull_back()
            return {name: self._only(tracked) for name, tracked in self.raw.items()}

    def _multiply_out(self) -> None:
        """Values used several times: uses of one linear map become one, other parts are made and added."""
        for key, waiting in self._waiting.items():
            linear = [factors for factors in waiting if isinstance(factors, LinearFactors)]
            parts: list[Factors] = [f for f in waiting if not isinstance(f, LinearFactors)]
            parts += [merge(linear)] if linear else []
            for factors in parts:
                self._keep(key, plans.contribution(factors, self.room, self.empty))

    def _pull_back(self) -> None:
        """From values made of parameters to the parameters: one vector-Jacobian product for every unit."""
        for key, tracked in self._tracked.items():
            if key in self._names or not self._done[key]:
                continue
            gradients = self._only(tracked).gradients().reshape(-1, *tracked.shape)
            found = torch.autograd.grad(
                tracked, list(self.raw.values()), gradients, retain_graph=True, allow_unused=True, is_grads_batched=True
            )
            for raw, g in zip(self.raw.values(), found, strict=True):
                if g is not None:
                    self.add_gradients(raw, g)

    def _only(self, tracked: Tensor) -> Contribution:
        """All parts of a value's gradient as one."""
        parts = self._done[id(tracked)]
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return Kept([tracked.detach().new_zeros(len(self.units), *[1] * tracked.ndim).expand(-1, *tracked.shape)])
        total = parts[0].gradients()
        for part in parts[1:]:
            total = total + part.gradients()
        return Kept([total])


class BypassedError(Exception):
    """Gradients reached these parameters outside the interception; `names` must go through the general path."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(", ".join(names))
        self.names = names


class EscapedError(Exception):
    """The model holds a parameter in a place that cannot be seen: a list, a closure of the loss."""
