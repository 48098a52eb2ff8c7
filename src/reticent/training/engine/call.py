"""One intercepted layer call: its forward on physical rows, and a backward that hands each unit's part to the tape."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from reticent.training.engine.contributions import Factors
from reticent.training.engine.units import Units

if TYPE_CHECKING:
    from reticent.training.engine.tape import Tape

HALF = (torch.float16, torch.bfloat16)


@dataclass
class Inputs:
    """Arguments of an intercepted function, by position and name."""

    tape: Tape
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def native(self, x: Any, *weights: Any) -> bool:
        """Whether `x` holds one row per record, and every weight is a tracked parameter, a constant or absent."""
        return (
            isinstance(x, Tensor)
            and torch._C._functorch.is_batchedtensor(x)
            and any(self.tape.is_tracked(w) for w in weights)
            and all(w is None or self.tape.is_tracked(w) or self.tape.is_constant(w) for w in weights)
        )


def take(inputs: Inputs, *names: str, defaults: dict[str, Any] | None = None) -> list[Any]:
    """Values of the named arguments, given by position or name; absent ones are their default, or None."""
    given = dict(zip(names, inputs.args, strict=False)) | inputs.kwargs
    return [given.get(name, (defaults or {}).get(name)) for name in names]


@dataclass
class Call:
    """Subclasses hold the raw weights and options of one call; `tracked` names the weights that are trained."""

    tape: Tape
    tracked: dict[str, Tensor]
    units: Units = field(init=False)
    """Layout of the rows that the layer sees."""

    def folded(self, x: Tensor) -> int:
        """How many leading axes of rows x (rows, ...) are one to the layer: images of a record, say."""
        return 1

    @classmethod
    def of(cls, inputs: Inputs, **values: Any) -> Self:
        """A call whose tensors among `values` are taken raw; those that are tracked get their units' gradients."""
        tape = inputs.tape
        tracked = {name: value for name, value in values.items() if tape.is_tracked(value)}
        for value in tracked.values():
            tape.count_use(value)
        raw = {name: value.detach() if isinstance(value, Tensor) else value for name, value in values.items()}
        return cls(tape, tracked, **raw)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Output for rows x (rows, ...), no view, and what the backward needs."""
        raise NotImplementedError

    def backward(self, g: Tensor, saved: tuple[Tensor, ...], need_input: bool) -> Tensor | None:
        """Input gradient, if needed; adds what every unit contributes to the weights."""
        raise NotImplementedError

    def trains(self, name: str) -> bool:
        """Whether this weight is trained."""
        return name in self.tracked

    def add(self, name: str, factors: Factors) -> None:
        """Contribution of this call to a weight, as factors."""
        self.tape.add_factors(self.tracked[name], factors)

    def add_rows(self, name: str, rows: Tensor) -> None:
        """Contribution of this call to a weight: the gradient of every row, (rows, *shape)."""
        self.tape.add_gradients(self.tracked[name], self.units.sum(narrow(rows)))


def narrow(tensor: Tensor) -> Tensor:
    """Half-precision values in float32: weight gradients and their norms are never formed in 16 bits."""
    return tensor.float() if tensor.dtype in HALF else tensor


def autocast(x: Tensor, *weights: Tensor | None) -> list[Any]:
    """Inputs and weights in the type that autocast would compute this layer in."""
    kind = x.device.type
    if not torch.is_autocast_enabled(kind) or x.dtype == torch.float64 or x.is_complex():
        return [x, *weights]
    dtype = torch.get_autocast_dtype(kind)
    return [x.to(dtype), *(None if w is None else w.to(dtype) for w in weights)]


class _Native(torch.autograd.Function):
    """Runs a call on physical rows; its backward needs no gradient of the weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor, call: Call) -> Tensor:
        ctx.call = call
        ctx.set_materialize_grads(False)
        y, saved = call.forward(x)
        ctx.save_for_backward(*saved)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g,) = grads
        if g is None:
            return None, None, None
        saved = tuple(t.detach() for t in ctx.saved_tensors)  # the tape keeps some: no cycle through the graph
        return ctx.call.backward(g, saved, ctx.needs_input_grad[0]), None, None


class UnderVmap(torch.autograd.Function):
    """A function of one record that subclasses define for all of them, by their `vmap`."""

    @staticmethod
    def forward(*_: Any) -> Any:
        raise AssertionError("only called under vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        raise AssertionError("only called under vmap")


def on_rows(x: Tensor, call: Call) -> Tensor:
    """The output for one record under `vmap`, of a call on all rows at once.

    What a custom function's `vmap` would do, without its machinery: that takes longer than a small layer.
    """
    functorch = torch._C._functorch
    level = functorch.maybe_get_level(x)
    rows = functorch._remove_batch_dim(x, level, call.tape.units.rows, 0)
    lead = rows.shape[: call.folded(rows)]
    call.units = call.tape.units.times(lead[1:].numel())
    layer = functorch.pop_dynamic_layer_stack()
    try:
        y = _Native.apply(rows.flatten(0, len(lead) - 1), call.tape.anchor, call).unflatten(0, lead)
    finally:
        functorch.push_dynamic_layer_stack(layer)
    return functorch._add_batch_dim(y, 0, level)


class Lift(UnderVmap):
    """From physical rows to one record under `vmap`, with the help of any tensor (`carrier`) that holds records."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, carrier: Tensor, tape: Tape, key: int) -> tuple[Tensor, int]:
        return tape.make_rows(key), 0
