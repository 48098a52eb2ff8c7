"""Models spread by PyTorch, replicated (`DistributedDataParallel`) or sharded (FSDP2): their plain forward, parameters,
gradients and states.

A DTensor is recognised without importing `torch.distributed.tensor`, which a process alone need not load.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_map

from reticent.training.ranks import Ranks, answering
from reticent.training.real_coordinates import wide_dtype

_HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
)


@contextmanager
def local_model(model: nn.Module) -> Iterator[tuple[nn.Module, dict[str, Tensor]]]:
    """The module whose forward is this rank's alone, and its whole parameters by name for `functional_call`.

    A plain module gives itself and its parameters; DDP the wrapped module, so that no reducer runs; an FSDP2 module
    itself with its forward hooks suspended and its parameters gathered (every rank must enter). Gathered parameters are
    leaves with the `requires_grad` of the sharded ones. On leaving, also by an exception, the hooks are back as they
    were. See `outer_names` for the names in `model.named_parameters()`.

    Raises:
        RanksLostError: another rank ended while the parameters were gathered.
    """
    inner = unwrapped(model)
    sharded = _sharded_modules(inner)
    reshard(inner)
    params = {name: _gathered(p) for name, p in inner.named_parameters()}
    kept = [(module, {name: OrderedDict(getattr(module, name)) for name in _HOOKS}) for module in sharded]
    try:
        for module in sharded:
            _suspend(module)
        yield inner, params
    finally:
        for module, hooks in kept:
            for name, entries in hooks.items():
                getattr(module, name).clear()
                getattr(module, name).update(entries)


def outer_names(model: nn.Module) -> dict[str, str]:
    """Name in `model.named_parameters()` of each parameter of the module that `local_model` gives."""
    return dict(zip(_names(unwrapped(model)), _names(model), strict=True))


def unwrapped(model: Any) -> Any:
    """The module inside DDP; anything else as it is."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def reshard(model: nn.Module) -> None:
    """Let an FSDP2 model's `named_parameters()` be its shards again, which a forward pass may have left gathered."""
    for module in _sharded_modules(model):
        module.reshard()  # type: ignore[operator]


def set_gradients(
    model: nn.Module, sums: Mapping[str, Tensor], privatised: Callable[[str, Tensor], Tensor], ranks: Ranks
) -> None:
    """Set the `.grad` of every parameter in `sums` to `privatised` (name, sum over ranks), computed once, on rank 0.

    Args:
        sums: this rank's share by name in `model.named_parameters()`, of the parameters' whole shapes; it is added up
            in float64 or complex128.
        privatised: adds the noise and scales. Its randomness is drawn in the order of `named_parameters()`.
    """
    reshard(unwrapped(model))
    for name, parameter in model.named_parameters():
        if name not in sums:
            continue
        total = ranks.total(sums[name].to(wide_dtype(sums[name])))  # rounded only once the noise is in
        value = (privatised(name, total) if ranks.leads else total).to(parameter.device, parameter.dtype)
        parameter.grad = _like(ranks.spread(value), parameter)


def add_up_gradients(model: nn.Module, ranks: Ranks) -> None:
    """Replace every `.grad` of replicated parameters by its sum over ranks; None counts as zero, unless all are None.

    Without noise: for training that is not private.
    """
    if ranks.size == 1:
        return
    some = torch.tensor([float(any(p.grad is not None for p in model.parameters()))])
    if not ranks.spread(ranks.total(some)).item():
        return
    for parameter in model.parameters():
        if parameter.requires_grad:
            part = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = ranks.spread(ranks.total(part))


def share_weights(model: nn.Module, ranks: Ranks) -> None:
    """Set parameters and buffers of a plain model to those of rank 0."""
    if ranks.size > 1:
        for value in model.state_dict().values():
            value.copy_(ranks.spread(value))


def whole(state: Any) -> Any:
    """A state with every sharded tensor gathered: the same for one process and for many. Every rank must call it."""
    return tree_map(lambda leaf: _whole(leaf) if _is_sharded(leaf) else leaf, state)


def whole_state(thing: Any) -> Any:
    """The whole `state_dict()`; of a DDP model that of the module inside, so that names do not tell how it was run."""
    return whole(unwrapped(thing).state_dict())


def load_whole_state(thing: Any, state: Any) -> None:
    """The inverse of `whole_state`, onto whatever shards `thing` has now; needs no other rank."""
    thing = unwrapped(thing)
    if isinstance(thing, torch.optim.Optimizer):
        state = _optimiser_shards(thing, state)
    elif isinstance(state, dict):
        own = thing.state_dict()
        state = {key: _like(value, own[key]) if key in own else value for key, value in state.items()}
    thing.load_state_dict(state)


def own_part(value: Tensor) -> Tensor:
    """The part of a tensor that this rank holds."""
    return value.to_local() if _is_sharded(value) else value  # type: ignore[attr-defined]


def _optimiser_shards(optimiser: torch.optim.Optimizer, state: Any) -> Any:
    """The state with each tensor of a parameter's shape cut like the parameter; parameters are numbered by group."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    by_number = dict(zip(numbers, parameters, strict=True))

    def cut(value: Any, parameter: Tensor) -> Any:
        fits = isinstance(value, Tensor) and value.shape == parameter.shape
        return _like(value.to(parameter.device), parameter) if fits else value

    slots = {
        number: {key: cut(value, by_number[number]) for key, value in own.items()}
        for number, own in state["state"].items()
    }
    return {**state, "state": slots}


def _like(value: Any, other: Any) -> Any:
    """A whole tensor, the same on all ranks, cut as `other` is; without communication."""
    if not _is_sharded(other) or _is_sharded(value):
        return value
    from torch.distributed.tensor import DTensor, Replicate

    mesh = other.device_mesh
    everywhere = DTensor.from_local(value.to(other.device), mesh, [Replicate()] * mesh.ndim, run_check=False)
    return everywhere.redistribute(mesh, other.placements)


def _gathered(parameter: Tensor) -> Tensor:
    if not _is_sharded(parameter):
        return parameter
    return _whole(parameter).requires_grad_(parameter.requires_grad)


def _whole(sharded: Any) -> Tensor:
    with answering():
        return sharded.detach().full_tensor()


def _is_sharded(value: Any) -> bool:
    loaded = sys.modules.get("torch.distributed.tensor")
    return loaded is not None and isinstance(value, loaded.DTensor)


def _sharded_modules(model: nn.Module) -> list[nn.Module]:
    loaded = sys.modules.get("torch.distributed.fsdp")
    return [] if loaded is None else [m for m in model.modules() if isinstance(m, loaded.FSDPModule)]


def _suspend(module: nn.Module) -> None:
    """Take FSDP2's own forward hooks out of a module; the user's stay."""
    state = module._get_fsdp_state()  # type: ignore[operator]
    handles = [state._pre_forward_hook_handle, state._post_forward_hook_handle]
    for handle in handles:
        for single in getattr(handle, "handles", (handle,)):  # several modules in one group have one handle
            for name in _HOOKS:
                getattr(module, name).pop(single.id, None)


def _names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]
