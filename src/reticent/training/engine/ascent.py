"""Every unit's gradient a small step up its own gradient: bias-aware minimisation (Knolle et al. 2023).

Touches private gradients; each unit's result depends on its own records alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.utils._pytree import tree_map

from reticent.training.engine.batches import Part, Records
from reticent.training.engine.contributions import Kept
from reticent.training.engine.interception import plainly
from reticent.training.engine.replacing import parameters_replaced
from reticent.training.engine.unit_gradients import Found, UnitGradients

_TINY = 1e-12
_COPIES = 4
"""Of the parameters for each row: its gradient, its move, where that leads, and the gradient there."""
_Gradients = dict[str, Tensor]


def ascended(work: UnitGradients, records: Records, radius: float) -> Iterator[Found]:
    r"""What `work.parts` yields, at :math:`\theta + r\, g_u / \|g_u\|` for each unit u instead of at :math:`\theta`.

    The first-order form of the gradient of :math:`\ell_u + r \|g_u\|`: :math:`g_u + r H_u g_u / \|g_u\| + O(r^2)`.
    Both passes of a unit draw the same random numbers on a CPU. A unit larger than a physical batch is moved along its
    whole gradient.
    """
    pending: list[tuple[Part, Tensor]] = []
    total: _Gradients = {}
    passes = work.parts(records, held=_COPIES * sum(p.nbytes for p in work.params.values()))
    while True:
        random = torch.get_rng_state()
        found = next(passes, None)
        if found is None:
            return
        part, contributions, losses = found
        gradients = {name: c.gradients().clone() for name, c in contributions.items()}
        total = {name: g + total[name] for name, g in gradients.items()} if total else gradients
        pending.append((part, random))
        if not part.whole:
            yield part, {name: Kept([torch.zeros_like(g)]) for name, g in gradients.items()}, losses
            continue
        moves, total = _along(total, radius), {}
        made, *others = [_moved(work, earlier, moves, state) for earlier, state in pending]
        pending = []
        yield part, {name: Kept([sum((some[name] for some in others), g)]) for name, g in made.items()}, losses


def _along(gradients: _Gradients, radius: float) -> _Gradients:
    """Steps of this length along each unit's gradient, over all parameters together."""
    squares = [g.abs().flatten(1).double().square().sum(1) for g in gradients.values()]
    lengths = radius / (torch.stack(squares).sum(0).sqrt() + _TINY)
    return {name: g * lengths.to(g.real.dtype).reshape(-1, *[1] * (g.ndim - 1)) for name, g in gradients.items()}


def _moved(work: UnitGradients, part: Part, moves: _Gradients, random: Tensor) -> _Gradients:
    """Gradients of the part's units (units, *shape), each at its own parameters."""
    torch.set_rng_state(random)
    if work.vectorisable and not work.known.detours.modules:
        try:
            return _together(work, part, moves)
        except (RuntimeError, NotImplementedError):  # a layer that has a rule, but cannot have weights for every record
            torch.set_rng_state(random)
    return _one_by_one(work, part, moves)


def _together(work: UnitGradients, part: Part, moves: _Gradients) -> _Gradients:
    batch = work.reader.select(work.batch, part.rows)

    def loss(values: _Gradients, record: Any) -> Tensor:
        with parameters_replaced(work.model, work.params, values):
            return work.losses(work.model, tree_map(lambda leaf: leaf.unsqueeze(0), record)).reshape(()) * work.share

    values = {name: part.units.expand(p.detach() + moves[name]) for name, p in work.params.items()}
    with plainly():
        by_row = vmap(grad(loss), randomness="different")(values, batch)
    return {name: part.units.sum(g) for name, g in by_row.items()}


def _one_by_one(work: UnitGradients, part: Part, moves: _Gradients) -> _Gradients:
    made: list[_Gradients] = []
    for unit, single in enumerate(part.single()):
        values = {name: (p.detach() + moves[name][unit]).requires_grad_() for name, p in work.params.items()}
        _, found, _ = work.alone(single, values)
        made.append({name: contribution.gradients() for name, contribution in found.items()})
    return {name: torch.cat([some[name] for some in made]) for name in work.params}
