"""The clipped sum: every privacy unit's gradient, bounded and added up, for any `nn.Module`.

May touch private gradients; nothing here logs or stores them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NewType

import torch
from torch import Tensor, nn

from reticent.errors import InputError
from reticent.training.engine.ascent import ascended
from reticent.training.engine.batches import BatchAdapter, Part, TreeAdapter, read_records
from reticent.training.engine.clip_factors import Clipping, Policy, make_policy
from reticent.training.engine.contributions import Contribution, Kept
from reticent.training.engine.footprint import DEFAULT_MEMORY
from reticent.training.engine.independence import attributes_restored, refuse_coupling_layers, unwritten
from reticent.training.engine.replacing import parameters_replaced
from reticent.training.engine.unit_gradients import LossFn, UnitGradients
from reticent.training.real_coordinates import wide_dtype
from reticent.training.sharding import local_model, outer_names

PrivateTensor = NewType("PrivateTensor", Tensor)
"""A value computed from private records without noise: it must not be logged, shown or stored."""


@dataclass(frozen=True)
class ClippedGrad:
    """Sum over units of clipped gradients, with what is needed to add the right noise.

    `sum` maps each trainable parameter's name to a tensor of its shape in double precision. It is private until noise
    is added.
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
    ascent: float = 0.0,
) -> ClippedGrad:
    r"""Clipped sum :math:`\sum_u w_u \min(1, C / \|g_u\|) g_u` with :math:`g_u = \sum_{i \in u} \nabla \ell_i`.

    Source: Abadi et al. 2016, algorithm 1, with the unit (patient) in place of the example. The model is neither
    wrapped nor changed.

    Args:
        model: any module whose records do not influence each other (see `check_independence`); under DDP or FSDP2 the
            sum is this rank's.
        loss_fn: `(model, batch) -> Tensor[n]` or `(Tensor[n], aux)`, one unreduced loss per record.
        batch: pytree of tensors with the record axis first, or whatever `adapter` understands.
        max_norm: clipping norm C, or one per unit (shape (n_units,)).
        units: LongTensor (n,), the unit of each record; -1 marks padding. Default: every record is a unit.
        weights: factors in [0, 1] per unit, applied after clipping.
        clipping: `"flat"` clips the whole gradient; `"per-layer"` each module's parameters to C / sqrt(layers);
            `"automatic"` scales every unit to C / (norm + 0.01) times its gradient (Bu et al. 2023); a mapping from
            parameter-name prefix to norm clips each group to its own norm (`max_norm` is then ignored).
        views: augmented views per record, stored next to each other (record-major); averaged before clipping.
        memory: cap in bytes on gradients and activations held at once (default 1 GiB).
        adapter: how to read `batch`; a custom one is served by one backward pass per unit.
        ascent: take each unit's gradient at parameters moved this far along its own gradient (bias-aware minimisation,
            Knolle et al. 2023); norms are those of what is clipped. One more pass, with own weights for every record.

    | case | result |
    |---|---|
    | a unit's gradient is not finite | it contributes exactly zero |
    | empty batch, or padding only | zeros |
    | a unit larger than the memory cap | its gradient is accumulated over physical batches, then clipped once |

    Bound: each unit's share of the sum has norm at most `max_norm`. Factors are lowered by 5e-5 (float32; 1e-12 in
    float64, 2^-8 in 16 bits) to cover the rounding of its norm; the rounding of adding shares up in the parameters'
    precision, about 1e-7 of a physical batch's sum in float32, is not covered.

    Raises:
        InputError: a prefix or an option does not fit the model or the batch; the model couples records or writes data
            into its buffers.
    """
    reader = adapter or TreeAdapter()
    n_rows = reader.size(batch)
    records = read_records(units, n_rows, views)
    names = outer_names(model)
    with local_model(model) as (inner, whole), parameters_replaced(inner, dict(inner.named_parameters()), whole):
        params: dict[str, Tensor] = {name: p for name, p in inner.named_parameters() if p.requires_grad}
        if not params:
            raise InputError("the model has no trainable parameter; set requires_grad on what should be trained")
        refuse_coupling_layers(inner)
        policy = make_policy({names[n]: p for n, p in params.items()}, clipping, max_norm, weights, records.n_units)
        device = next(iter(params.values())).device
        total = _Total(params, policy, names, torch.zeros(records.n_units, device=device))
        losses = torch.zeros(n_rows, device=device)
        work = UnitGradients(inner, loss_fn, batch, params, reader, 1 / views, memory or DEFAULT_MEMORY)
        with unwritten(inner), attributes_restored(inner):
            for part, contributions, values in ascended(work, records, ascent) if ascent else work.parts(records):
                losses[part.rows.to(device)] = values.to(losses)
                with torch.autocast(device.type, enabled=False):
                    total.add(part, contributions)
                del contributions, values  # the next part needs the memory
    return ClippedGrad(
        sum={names[name]: value for name, value in total.sum.items()},
        norms=PrivateTensor(total.norms),
        losses=PrivateTensor(losses.reshape(-1, views).mean(1)),
        n_units=records.n_units,
        bound=policy.bound,
    )


@dataclass
class _Total:
    """Adds up clipped contributions, in float64 over physical batches."""

    params: Mapping[str, Tensor]
    policy: Policy
    names: Mapping[str, str]
    """Name in the user's model of each parameter."""
    norms: Tensor
    _open: dict[str, Tensor] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.sum = {name: torch.zeros_like(p, dtype=wide_dtype(p)) for name, p in self.params.items()}

    @torch.no_grad()
    def add(self, part: Part, contributions: dict[str, Contribution]) -> None:
        if self._open is not None or not part.whole:
            gradients = {name: c.gradients().to(self.sum[name].dtype, copy=True) for name, c in contributions.items()}
            if self._open is not None:
                gradients = {name: g + self._open[name] for name, g in gradients.items()}
            self._open = None if part.whole else gradients
            contributions = {name: Kept([g]) for name, g in gradients.items()}
        if part.whole:
            norms, factors = self.policy.factors(
                {self.names[name]: c.squares for name, c in contributions.items()}, part.numbers
            )
            self.norms[part.numbers.to(self.norms.device)] = norms.to(self.norms)
            for name, contribution in contributions.items():
                self.sum[name] += contribution.weighted(factors[self.names[name]])
