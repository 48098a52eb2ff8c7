"""Clipping policies: how much of each unit's gradient stays, for each group of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reticent.errors import InputError
from reticent.training.engine.norms import margin

Clipping = Literal["flat", "per-layer", "automatic"] | Mapping[str, float]
_AUTOMATIC_STABILISER = 0.01
_SMALLEST = torch.finfo(torch.float32).tiny
"""Below, a factor has too few digits left to bound anything: the unit is dropped."""


@dataclass(frozen=True)
class Group:
    """Parameters clipped together, with their norm bound (a float, or one per unit)."""

    names: tuple[str, ...]
    norm: float | Tensor


@dataclass(frozen=True)
class Policy:
    """Clipping factors of a batch's units; `weights` in [0, 1] scale a clipped unit."""

    groups: tuple[Group, ...]
    weights: Tensor | None
    automatic: bool
    margin: float

    @property
    def bound(self) -> float:
        """Largest norm that a unit can contribute."""
        largest = [torch.as_tensor(g.norm, dtype=torch.float64).reshape(-1) for g in self.groups]
        return sum(float(norms.max()) ** 2 if len(norms) else 0.0 for norms in largest) ** 0.5

    def factors(self, squares: Mapping[str, Tensor], units: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Norm of each unit, and its factor for every parameter; both float64 (units,).

        Args:
            squares: squared gradient norm by parameter, float64 (units,).
            units: number of each unit in the whole batch.
        """
        norms = torch.stack(list(squares.values())).sum(0).sqrt()
        finite, found = norms.isfinite(), {}
        for group in self.groups:
            norm = torch.stack([squares[name] for name in group.names]).sum(0).sqrt()
            bound = torch.as_tensor(group.norm, device=norm.device, dtype=norm.dtype)
            bound = (bound[units.to(bound.device)] if bound.ndim else bound) * (1 - self.margin)
            factor = bound / (norm + _AUTOMATIC_STABILISER) if self.automatic else (bound / norm).clamp(max=1)
            if self.weights is not None:
                factor = factor * self.weights.to(factor)[units.to(factor.device)]
            factor = torch.where(finite & (factor >= _SMALLEST), factor, 0)
            found.update(dict.fromkeys(group.names, factor))
        return norms, found


def make_policy(
    params: Mapping[str, Tensor], clipping: Clipping, max_norm: float | Tensor, weights: Tensor | None, n_units: int
) -> Policy:
    """The policy that `clipped_grad`'s options describe.

    Raises:
        InputError: an option does not fit the parameters or the number of units.
    """
    groups = _groups(params, clipping, max_norm)
    for group in groups:
        norms = torch.as_tensor(group.norm)
        if not (norms.isfinite() & (norms > 0)).all():
            raise InputError("max_norm must be positive and finite")
        if norms.ndim and len(norms) != n_units:
            raise InputError(f"max_norm has {len(norms)} entries for {n_units} units")
    if weights is not None and not (len(weights) == n_units and bool(((weights >= 0) & (weights <= 1)).all())):
        raise InputError(f"weights must be {n_units} numbers from 0 to 1, one for each unit")
    return Policy(groups, weights, clipping == "automatic", margin({p.dtype for p in params.values()}))


def _groups(params: Mapping[str, Tensor], clipping: Clipping, max_norm: float | Tensor) -> tuple[Group, ...]:
    if isinstance(clipping, Mapping):
        members: dict[str, list[str]] = {prefix: [] for prefix in clipping}
        for name in params:
            prefix = max((p for p in clipping if name.startswith(p)), key=len, default=None)
            if prefix is None:
                raise InputError(f"clipping names no group for parameter {name!r}; add a prefix that covers it")
            members[prefix].append(name)
        return tuple(Group(tuple(names), clipping[prefix]) for prefix, names in members.items() if names)
    if clipping == "per-layer":
        layers: dict[str, list[str]] = {}
        for name in params:
            layers.setdefault(name.rpartition(".")[0], []).append(name)
        return tuple(Group(tuple(names), max_norm / len(layers) ** 0.5) for names in layers.values())
    if clipping not in ("flat", "automatic"):
        raise InputError(f'clipping={clipping!r} is not known; use "flat", "per-layer", "automatic" or a mapping')
    return (Group(tuple(params), max_norm),)
