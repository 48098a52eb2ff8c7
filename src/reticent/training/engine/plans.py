"""How each layer's norms are found: measured once per layer, shape, dtype and device, or by a fixed rule."""

from __future__ import annotations

from functools import partial

import torch

from reticent.training.engine.contributions import Contribution, Factors, Ghost, Kept, Remade
from reticent.training.engine.strategies import FIXED, GHOST, RECOMPUTE
from reticent.training.engine.timing import magnitude, shortest
from reticent.training.engine.workspace import Empty, Workspace

_TRIED_UNITS, _NEAR = 8, 2.0

_CHOSEN: dict[tuple[object, ...], str] = {}


def chosen_strategies() -> dict[tuple[object, ...], str]:
    """What was measured to be fastest so far, by layer kind, shapes, options, dtype and device."""
    return dict(_CHOSEN)


def contribution(factors: Factors, room: int, empty: Empty) -> Contribution:
    """The units' gradients for these factors, kept in memory from `empty` if they fit `room` bytes."""
    fits = factors.gradient_bytes <= room
    fixed = FIXED.get()
    if fixed is not None:
        name = _by_name(factors, fixed, fits)
    else:
        key = (*factors.signature, magnitude(factors.units.rows), factors.units.each, torch.get_num_threads(), fits)
        if key not in _CHOSEN:
            _CHOSEN[key] = _fastest(factors, fits)
        name = _CHOSEN[key]
    return _carry_out(factors, name, empty)


def _carry_out(factors: Factors, name: str, empty: Empty) -> Contribution:
    if name == GHOST:
        return Ghost(factors, empty)
    way = factors.ways[name.removesuffix(RECOMPUTE)]
    if name.endswith(RECOMPUTE):
        return Remade(factors, way)
    return Kept(way(empty))


def _by_name(factors: Factors, name: str, fits: bool) -> str:
    way, recompute = name.removesuffix(RECOMPUTE), name.endswith(RECOMPUTE)
    if way == GHOST and factors.prefers_ghost is not None:
        return GHOST
    if way not in factors.ways:
        if factors.prefers_ghost:
            return GHOST
        way = next(iter(factors.ways))
    return way if fits and not recompute else way + RECOMPUTE


def _fastest(factors: Factors, fits: bool) -> str:
    end = "" if fits else RECOMPUTE
    names = [way + end for way in factors.ways] + [GHOST] * (factors.prefers_ghost is not None)
    if len(names) > 1 and len(factors.units) > _TRIED_UNITS:
        few = _seconds(factors.first(_TRIED_UNITS), names)
        names = [name for name in names if few[name] <= _NEAR * min(few.values())]
    if len(names) == 1:
        return names[0]
    seconds = _seconds(factors, names)  # on all units: few gradients would stay in the cache
    return min(names, key=seconds.__getitem__)


def _seconds(factors: Factors, names: list[str]) -> dict[str, float]:
    """Norms and weighted sum in each way."""
    workspace = Workspace()
    ones = torch.ones(len(factors.units), dtype=torch.float64, device=factors.g.device)

    def once(name: str) -> None:
        _carry_out(factors, name, workspace.empty).weighted(ones)
        workspace.release()

    return {name: shortest(partial(once, name), ones.device) for name in names}
