"""LSTM, GRU and plain recurrent networks and cells, taken apart into linear maps that are called once a time step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Sequence[Tensor]
Cell = Callable[[Tensor, tuple[Tensor, ...], Tensor, "Tensor | None"], tuple[Tensor, ...]]


def lstm_step(gates: Tensor, state: tuple[Tensor, ...], weight: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
    """(h, c) after one step, from the input's share of the gates."""
    i, f, g, o = (gates + F.linear(state[0], weight, bias)).chunk(4, -1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gru_step(gates: Tensor, state: tuple[Tensor, ...], weight: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
    """(h,) after one step."""
    (r, z, n), (hr, hz, hn) = gates.chunk(3, -1), F.linear(state[0], weight, bias).chunk(3, -1)
    z = (z + hz).sigmoid()
    return ((1 - z) * (n + (r + hr).sigmoid() * hn).tanh() + z * state[0],)


def tanh_step(gates: Tensor, state: tuple[Tensor, ...], weight: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
    """(h,) after one step."""
    return ((gates + F.linear(state[0], weight, bias)).tanh(),)


def relu_step(gates: Tensor, state: tuple[Tensor, ...], weight: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
    """(h,) after one step."""
    return ((gates + F.linear(state[0], weight, bias)).relu(),)


NETWORKS: dict[Callable[..., Any], Cell] = {
    torch.lstm: lstm_step,
    torch.gru: gru_step,
    torch.rnn_tanh: tanh_step,
    torch.rnn_relu: relu_step,
}
CELLS: dict[Callable[..., Any], Cell] = {
    torch.lstm_cell: lstm_step,
    torch.gru_cell: gru_step,
    torch.rnn_tanh_cell: tanh_step,
    torch.rnn_relu_cell: relu_step,
}


def cell(step: Cell, x: Tensor, state: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None) -> Any:
    """`torch.lstm_cell` and its like."""
    states = tuple(state) if isinstance(state, tuple | list) else (state,)
    result = step(F.linear(x, w_ih, b_ih), _per_record(states, x), w_hh, b_hh)
    return result if len(result) > 1 else result[0]


def network(step: Cell, x: Tensor, hx: Any, *options: Any) -> tuple[Tensor, ...]:
    """`torch.lstm` and its like, on padded sequences; output (T, n, D h) and the last states (layers D, n, h)."""
    if not isinstance(options[1], bool):
        raise NotImplementedError("packed sequences have no native rule")
    weights, has_biases, layers, dropout, training, bidirectional, batch_first = options
    directions, size = 1 + bidirectional, len(weights) // (layers * (1 + bidirectional))
    states = _per_record(tuple(hx) if isinstance(hx, tuple | list) else (hx,), x)
    x = x.transpose(0, 1) if batch_first else x
    last: list[tuple[Tensor, ...]] = []
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            place = layer * directions + direction
            own = weights[place * size : (place + 1) * size]
            if size > (4 if has_biases else 2):
                raise NotImplementedError("projections of an LSTM have no native rule")
            output, state = _run(step, x, tuple(s[place] for s in states), own, backwards=direction == 1)
            outputs.append(output)
            last.append(state)
        x = torch.cat(outputs, -1)
        if dropout and training and layer < layers - 1:
            x = F.dropout(x, dropout)
    stacked = tuple(torch.stack(parts) for parts in zip(*last, strict=True))
    return x.transpose(0, 1) if batch_first else x, *stacked


def _run(
    step: Cell, x: Tensor, state: tuple[Tensor, ...], weights: Weights, *, backwards: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    w_ih, w_hh, *biases = weights
    b_ih, b_hh = biases or (None, None)
    gates, outputs = F.linear(x, w_ih, b_ih), []
    for t in reversed(range(len(x))) if backwards else range(len(x)):
        state = step(gates[t], state, w_hh, b_hh)
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if backwards else outputs), state


def _per_record(states: tuple[Tensor, ...], x: Tensor) -> tuple[Tensor, ...]:
    """First states that hold one row for each record, as x does."""
    return tuple(state + x.new_zeros(state.shape) for state in states)
