"""The clipped sum: every privacy unit's gradient, bounded and added up, for any `nn.Module`.

May touch private gradients; nothing here logs or stores them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NewType, Protocol
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.utils._pytree import tree_leaves, tree_map

from reticent.errors import InputError, first_line

LossFn = Callable[[nn.Module, Any], "Tensor | tuple[Tensor, Any]"]
Clipping = Literal["flat", "per-layer", "automatic"] | Mapping[str, float]
PrivateTensor = NewType("PrivateTensor", Tensor)
"""A value computed from private records without noise: it must not be logged, shown or stored."""

DEFAULT_MEMORY = 2**30
_LARGEST_CHUNK = 64
_AUTOMATIC_STABILISER = 0.01


class BatchAdapter(Protocol):
    """Says what the records of an opaque batch are."""

    def size(self, batch: Any) -> int:
        """Number of records (rows) in the batch."""

    def select(self, batch: Any, rows: Tensor) -> Any:
        """The batch made of these records alone; for packed inputs, with everything that belongs to them."""


@dataclass(frozen=True)
class ClippedGrad:
    """Sum over units of clipped gradients, with what is needed to add the right noise.

    `sum` maps each trainable parameter's name to a float64 tensor of its shape. It is private until noise is added.
    """

    sum: dict[str, Tensor]
    norms: PrivateTensor
    """Gradient norm of each unit before clipping, shape (n_units,). Private."""
    losses: PrivateTensor
    """Loss of each record, shape (n,). Private."""
    n_units: int
    bound: float
    """Largest norm that one unit can contribute to `sum`."""

    def sensitivity(self, neighbouring_relation: str) -> float:
        """L2 sensitivity of `sum`: `bound` if one unit is added or removed, twice that if one is replaced."""
        factors = {"add-or-remove-one": 1.0, "replace-one": 2.0}
        return factors[neighbouring_relation] * self.bound


def clipped_grad(
    model: nn.Module,
    loss_fn: LossFn,
    batch: Any,
    *,
    max_norm: float | Tensor,
    units: Tensor | None = None,
    weights: Tensor | None = None,
    clipping: Clipping = "flat",
    views: int = 1,
    memory: int | None = None,
    adapter: BatchAdapter | None = None,
) -> ClippedGrad:
    r"""Clipped sum :math:`\sum_u w_u \min(1, C / \|g_u\|) g_u` with :math:`g_u = \sum_{i \in u} \nabla \ell_i`.

    Source: Abadi et al. 2016, algorithm 1, with the unit (patient) in place of the example. The model is neither
    wrapped nor changed. Guarantee: each unit's contribution has norm at most `max_norm`, rounding included.

    Args:
        model: any module whose records do not influence each other (see `check_model`).
        loss_fn: `(model, batch) -> Tensor[n]` or `(Tensor[n], aux)`, one unreduced loss per record.
        batch: pytree of tensors with the record axis first, or whatever `adapter` understands.
        max_norm: clipping norm C, or one per unit (shape (n_units,)).
        units: LongTensor (n,), the unit of each record; -1 marks padding. Default: every record is a unit.
        weights: factors in [0, 1] per unit, applied after clipping.
        clipping: `"flat"` clips the whole gradient; `"per-layer"` each module's parameters to C / sqrt(layers);
            `"automatic"` scales every unit to C / (norm + 0.01) times its gradient (Bu et al. 2023); a mapping from
            parameter-name prefix to norm clips each group to its own norm (`max_norm` is then ignored).
        views: augmented views per record, stored next to each other (record-major); averaged before clipping.
        memory: cap in bytes on per-record gradients and activations held at once (default 1 GiB).
        adapter: how to read `batch`; a custom one is served by one backward pass per record.

    | case | result |
    |---|---|
    | a unit's gradient is not finite | it contributes exactly zero |
    | empty batch, or padding only | zeros |
    | a unit larger than the memory cap | its gradient is accumulated over chunks, then clipped once |

    Raises:
        InputError: a prefix or an option does not fit the model or the batch.
    """
    params: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not params:
        raise InputError("the model has no trainable parameter; set requires_grad on what should be trained")
    records = adapter.size(batch) if adapter else _tree_size(batch)
    if records % views:
        raise InputError(f"the batch has {records} rows, which is not a multiple of views={views}")
    rows, units, n_units = _sorted_by_unit(units, records, views)
    groups = _groups(params, clipping, max_norm)
    _check_factors(groups, weights, n_units)
    total = _ClippedTotal(params, groups, n_units, weights, automatic=clipping == "automatic")
    losses = torch.zeros(records, device=next(iter(params.values())).device)
    work = _Work(model, loss_fn, batch, params, adapter, memory or DEFAULT_MEMORY)
    for chosen, gradients, values in work.per_record(rows):
        losses[chosen] = values.to(losses)
        total.add(units[chosen], {name: g / views for name, g in gradients.items()})
    total.flush()
    return ClippedGrad(
        sum=total.sum,
        norms=PrivateTensor(total.norms),
        losses=PrivateTensor(losses.reshape(-1, views).mean(1)),
        n_units=n_units,
        bound=total.bound,
    )


@dataclass(frozen=True)
class _Group:
    """Parameters clipped together, with their norm bound (a float, or one per unit)."""

    names: tuple[str, ...]
    norm: float | Tensor


def _groups(params: Mapping[str, Tensor], clipping: Clipping, max_norm: float | Tensor) -> list[_Group]:
    if isinstance(clipping, Mapping):
        members: dict[str, list[str]] = {prefix: [] for prefix in clipping}
        for name in params:
            prefix = max((p for p in clipping if name.startswith(p)), key=len, default=None)
            if prefix is None:
                raise InputError(f"clipping names no group for parameter {name!r}; add a prefix that covers it")
            members[prefix].append(name)
        return [_Group(tuple(names), clipping[prefix]) for prefix, names in members.items() if names]
    if clipping == "per-layer":
        layers: dict[str, list[str]] = {}
        for name in params:
            layers.setdefault(name.rpartition(".")[0], []).append(name)
        return [_Group(tuple(names), max_norm / len(layers) ** 0.5) for names in layers.values()]
    if clipping not in ("flat", "automatic"):
        raise InputError(f'clipping={clipping!r} is not known; use "flat", "per-layer", "automatic" or a mapping')
    return [_Group(tuple(params), max_norm)]


def _check_factors(groups: Sequence[_Group], weights: Tensor | None, n_units: int) -> None:
    for group in groups:
        norms = torch.as_tensor(group.norm)
        if not (norms.isfinite() & (norms > 0)).all():
            raise InputError("max_norm must be positive and finite")
        if norms.ndim and len(norms) != n_units:
            raise InputError(f"max_norm has {len(norms)} entries for {n_units} units")
    if weights is not None and not (len(weights) == n_units and bool(((weights >= 0) & (weights <= 1)).all())):
        raise InputError(f"weights must be {n_units} numbers from 0 to 1, one for each unit")


def _sorted_by_unit(units: Tensor | None, records: int, views: int) -> tuple[Tensor, Tensor, int]:
    """Rows in unit order without padding, the unit of every row, and the number of units."""
    if units is None:
        units = torch.arange(records // views)
    if len(units) * views != records:
        raise InputError(f"units has {len(units)} entries for {records // views} records")
    units = units.repeat_interleave(views)
    n_units = int(units.max()) + 1 if len(units) else 0
    order = torch.argsort(units, stable=True)
    return order[units[order] >= 0], units, n_units


class _ClippedTotal:
    """Adds up clipped unit gradients; rows arrive in unit order, so only the last unit can be incomplete."""

    def __init__(
        self,
        params: Mapping[str, Tensor],
        groups: Sequence[_Group],
        n_units: int,
        weights: Tensor | None,
        *,
        automatic: bool,
    ) -> None:
        first = next(iter(params.values()))
        # In float64: float32 sums of squares lose small entries behind large ones, and would understate a norm; and the
        # rounding of a float32 total would let a unit move it by more than its bound.
        self.sum = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in params.items()}
        self.norms = torch.zeros(n_units, device=first.device)
        largest = [torch.as_tensor(g.norm, dtype=torch.float64).reshape(-1) for g in groups]
        self.bound = sum(float(norms.max()) ** 2 if len(norms) else 0.0 for norms in largest) ** 0.5
        self._groups, self._weights, self._automatic = groups, weights, automatic
        # A float64 norm is off by no more than this share, in whatever order its squares are added.
        self._rounding = 2.0**-52 * (sum(p.numel() for p in params.values()) + 64)
        self._open: tuple[Tensor, dict[str, Tensor]] | None = None

    def add(self, units: Tensor, gradients: dict[str, Tensor]) -> None:
        distinct, position = torch.unique_consecutive(units, return_inverse=True)
        if len(distinct) != len(units):
            gradients = {
                name: g.new_zeros((len(distinct), *g.shape[1:])).index_add_(0, position.to(g.device), g)
                for name, g in gradients.items()
            }
        if self._open and self._open[0] == distinct[0]:
            for name, partial in self._open[1].items():
                gradients[name][0] += partial
        elif self._open:
            self.flush()
        self._open = distinct[-1], {name: g[-1].clone() for name, g in gradients.items()}
        self._clip(distinct[:-1], {name: g[:-1] for name, g in gradients.items()})

    def flush(self) -> None:
        """Clip the unit that was still open."""
        if self._open:
            unit, gradients = self._open
            self._clip(unit[None], {name: g[None] for name, g in gradients.items()})
            self._open = None

    def _clip(self, units: Tensor, gradients: dict[str, Tensor]) -> None:
        if not len(units):
            return
        wide = {name: g.reshape(len(g), -1).to(torch.float64) for name, g in gradients.items()}
        squares = {name: torch.linalg.vector_norm(g, dim=1) ** 2 for name, g in wide.items()}
        norms = torch.stack(list(squares.values())).sum(0).sqrt()
        finite = norms.isfinite()
        self.norms[units.to(norms.device)] = norms.to(self.norms)
        for group in self._groups:
            norm = torch.stack([squares[name] for name in group.names]).sum(0).sqrt()
            bound = torch.as_tensor(group.norm, device=norm.device, dtype=norm.dtype).expand(len(self.norms))
            factor = bound[units.to(norm.device)] * (1 - self._rounding)
            factor = factor / (norm + _AUTOMATIC_STABILISER) if self._automatic else (factor / norm).clamp(max=1)
            if self._weights is not None:
                factor = factor * self._weights.to(factor)[units.to(factor.device)]
            factor = torch.where(finite, factor, 0)
            for name in group.names:
                g = wide[name] if finite.all() else wide[name].nan_to_num(0, 0, 0)
                self.sum[name] += (factor @ g).reshape(self.sum[name].shape)


@dataclass
class _Work:
    """Per-record gradients of one batch, a chunk at a time."""

    model: nn.Module
    loss_fn: LossFn
    batch: Any
    params: dict[str, Tensor]
    adapter: BatchAdapter | None
    memory: int

    def per_record(self, rows: Tensor) -> Iterator[tuple[Tensor, dict[str, Tensor], Tensor]]:
        """Yield (rows, gradient of each row by parameter, loss of each row)."""
        if not len(rows):
            return
        vectorise = self.adapter is None and self.model not in _NOT_VECTORISABLE
        size = 1
        if vectorise:
            size, _ = records_at_once(self.model, self.loss_fn, self.batch, self.memory)
        start = 0
        while start < len(rows):
            chosen = rows[start : start + size]
            if vectorise:
                try:
                    yield chosen, *self._vectorised(chosen)
                except (RuntimeError, NotImplementedError) as error:
                    if start:
                        raise
                    _warn_once(self.model, error)
                    vectorise, size = False, 1
                    continue
            else:
                yield chosen, *self._single(chosen)
            start += size

    def _losses(self, model: nn.Module, batch: Any) -> Tensor:
        result = self.loss_fn(model, batch)
        return result[0] if isinstance(result, tuple) else result

    def _vectorised(self, rows: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        wrapped = _Loss(self.model, self._losses)
        params = {f"model.{name}": p.detach() for name, p in self.params.items()}

        def loss(params: dict[str, Tensor], record: Any) -> Tensor:
            one = tree_map(lambda t: t.unsqueeze(0), record)
            return functional_call(wrapped, params, (one,)).squeeze(0)

        record_axis = vmap(grad_and_value(loss), in_dims=(None, 0), randomness="different")
        gradients, losses = record_axis(params, _tree_select(self.batch, rows))
        return {name.removeprefix("model."): g for name, g in gradients.items()}, losses

    def _single(self, rows: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        select = self.adapter.select if self.adapter else _tree_select
        losses = self._losses(self.model, select(self.batch, rows))
        gradients = torch.autograd.grad(losses.sum(), list(self.params.values()), allow_unused=True)
        by_name = {
            name: (torch.zeros_like(p) if g is None else g)[None]
            for (name, p), g in zip(self.params.items(), gradients, strict=True)
        }
        return by_name, losses.detach()


def records_at_once(model: nn.Module, loss_fn: LossFn, batch: Any, memory: int) -> tuple[int, int]:
    """How many records' gradients and saved activations fit `memory`, and the bytes of one record."""
    saved = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal saved
        saved += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss_fn(model, _tree_select(batch, torch.tensor([0])))
    weights = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    each = 2 * (max(saved - weights, 0) + weights)
    return max(1, min(_LARGEST_CHUNK, memory // each)), each


class _Loss(nn.Module):
    def __init__(self, model: nn.Module, losses: Callable[[nn.Module, Any], Tensor]) -> None:
        super().__init__()
        self.model, self._losses = model, losses

    def forward(self, batch: Any) -> Tensor:
        return self._losses(self.model, batch)


_NOT_VECTORISABLE: WeakSet[nn.Module] = WeakSet()


def _warn_once(model: nn.Module, error: Exception) -> None:
    _NOT_VECTORISABLE.add(model)
    warnings.warn(
        f"{type(model).__name__} cannot be vectorised over records ({first_line(error)}); "
        "taking one backward pass per record",
        stacklevel=4,
    )


def _tree_size(batch: Any) -> int:
    sizes = {len(leaf) for leaf in tree_leaves(batch)}
    if len(sizes) != 1:
        raise InputError(f"the tensors of a batch must share their first axis (records), found lengths {sorted(sizes)}")
    return sizes.pop()


def _tree_select(batch: Any, rows: Tensor) -> Any:
    return tree_map(lambda leaf: leaf[rows.to(leaf.device)], batch)
