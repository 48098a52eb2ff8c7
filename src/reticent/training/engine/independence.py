"""Refuses networks and losses for which "one patient's gradient" does not exist."""

from __future__ import annotations

import random as random_module
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.utils._pytree import tree_leaves

from reticent.errors import InputError
from reticent.training.engine.batches import BatchAdapter, TreeAdapter

PROBED = 3
_ROUNDING = (1e-3, 1e-4)
_ROUNDING_IN_16_BITS = (2.0**-4, 2.0**-6)
"""Relative, absolute: kernels for one record and for several round in other orders, by 2^-8 at a time in bfloat16."""
Run = Callable[[nn.Module, Any], Any]


def check_independence(
    model: nn.Module, batch: Any, run: Run | None = None, *, adapter: BatchAdapter | None = None
) -> None:
    """Refuse what couples the records of a batch, and forwards that write data into buffers or parameters.

    Looks at the layers, then runs up to three records together and one of them alone and compares. Dropout is off
    meanwhile; what is random otherwise cannot be compared and is left to the look at the layers.

    Args:
        model: the network, in the mode it is trained in.
        batch: two or more records, made up or private.
        run: `(model, batch)` to outputs or losses, record axis first; default `model(batch)`.
        adapter: how to read `batch`, as for `clipped_grad`.

    Raises:
        InputError: names the layer or buffer, why it is refused and what to use instead.
    """
    refuse_coupling_layers(model)
    reader, run = adapter or TreeAdapter(), run or _forward
    rows = min(PROBED, reader.size(batch))
    several = reader.select(batch, torch.arange(rows))
    with _random_state_kept() as restart, _without_dropout(model), unwritten(model):
        together = _outputs(run(model, several))
        restart()
        again = _outputs(run(model, several))
        other = _outputs(run(model, several))
        alone = _outputs(run(model, reader.select(batch, torch.tensor([0]))))
    if len(together) != len(alone) or any(len(t) != rows for t in together):
        raise InputError(
            f"{type(model).__name__}: outputs must have one row for each of the batch's {rows} records; "
            "return one loss per record, unreduced"
        )
    rounding = _ROUNDING_IN_16_BITS if _in_16_bits(model) else _ROUNDING
    if not _close(together, again, rounding):
        raise InputError(
            f"{type(model).__name__}: the same records from the same random state give other outputs: it keeps a state "
            "of what it saw.\nRemove whatever a forward pass stores for the next one."
        )
    random = not _close(together, other, rounding)
    if not random and rows > 1 and not _close([t[:1] for t in together], alone, rounding):
        raise InputError(
            f"{type(model).__name__}: a record's output changes with the other records of its batch; "
            "remove whatever couples them (batch statistics, attention or losses across records)"
        )


def refuse_coupling_layers(model: nn.Module) -> None:
    """Refuse layers that are known to mix records or to store statistics of them.

    Raises:
        InputError: names the layer and the remedy.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or not module.track_running_stats):
            raise InputError(
                f"layer {name!r} ({type(module).__name__}) mixes the patients of a batch, so no patient's influence "
                "can be bounded.\nUse GroupNorm instead: to_private(model) converts it; MONAI networks take "
                "norm=('group', {'num_groups': 8})."
            )
        if isinstance(module, _InstanceNorm) and module.track_running_stats and module.training:
            raise InputError(
                f"layer {name!r} ({type(module).__name__}) stores running statistics of patients; "
                "set track_running_stats=False, as to_private(model) does"
            )


@contextmanager
def unwritten(model: nn.Module) -> Iterator[None]:
    """Refuse the model if its buffers or parameters are written meanwhile, and put them back.

    Values are compared: `.data` and NumPy write without leaving a trace.

    Raises:
        InputError: names what was written.
    """
    kept = _state(model)
    copies = {name: value.detach().clone() for name, value in kept.items() if value is not None}
    try:
        yield
    finally:
        written = _put_back(model, kept, copies)
    if written:
        raise InputError(
            f"{written[0]!r} is written during the forward pass: patients' data would enter the released weights "
            "without noise.\nUse a layer without running statistics (to_private(model) knows some), or one whose "
            "values only an optimiser changes."
        )


def _put_back(model: nn.Module, kept: Mapping[str, Tensor | None], copies: Mapping[str, Tensor]) -> list[str]:
    """Names of what differs from its copy or is new in the state; the model has its own tensors and values again.

    What is new but not saved with the weights goes without a word, as other attributes do.
    """
    now = _state(model)
    added = [name for name, value in now.items() if value is not None and name not in copies]
    saved = []
    written = [name for name, copy in copies.items() if not _same(now.get(name), copy)]
    with torch.no_grad():
        for name in written:
            owner, _, last = name.rpartition(".")
            module = model.get_submodule(owner)
            own = kept[name]
            assert own is not None
            own.data = copies[name]
            _places(module, last)[last] = own
    for name in added:
        owner, _, last = name.rpartition(".")
        module = model.get_submodule(owner)
        if last not in module._non_persistent_buffers_set:
            saved.append(name)
        if name in kept:
            _places(module, last)[last] = None
        else:
            delattr(module, last)
    return [*written, *saved]


def _places(module: nn.Module, name: str) -> dict[str, Any]:
    return module._buffers if name in module._buffers else module._parameters


@contextmanager
def attributes_restored(model: nn.Module) -> Iterator[None]:
    """Take back what the forward pass stores on modules (attention maps, a codebook's perplexity): it is private.

    Inside `vmap` such tensors are also of no use later: they cannot be printed, copied or saved.
    """
    kept = [(vars(module), dict(vars(module))) for module in model.modules()]
    try:
        yield
    finally:
        for now, before in kept:
            for name in [name for name, value in now.items() if value is not before.get(name) and _has_tensor(value)]:
                if name in before:
                    now[name] = before[name]
                else:
                    del now[name]


def _has_tensor(tree: Any) -> bool:
    return any(isinstance(leaf, Tensor) for leaf in tree_leaves(tree))


def _same(a: Tensor | None, b: Tensor) -> bool:
    return a is not None and a.shape == b.shape and bool(torch.equal(a, b))


def _state(model: nn.Module) -> dict[str, Tensor | None]:
    """Parameters and buffers; None for those that are registered as such."""
    return {
        f"{owner}.{name}" if owner else name: value
        for owner, module in model.named_modules()
        for places in (module._parameters, module._buffers)
        for name, value in places.items()
    }


def _forward(model: nn.Module, batch: Any) -> Any:
    return model(batch)


def _outputs(result: Any) -> list[Tensor]:
    first = result[0] if isinstance(result, tuple) else result
    return [leaf.detach() for leaf in tree_leaves(first) if isinstance(leaf, Tensor)]


def _in_16_bits(model: nn.Module) -> bool:
    return any(p.element_size() < 4 or torch.is_autocast_enabled(p.device.type) for p in model.parameters())


def _close(found: list[Tensor], expected: list[Tensor], rounding: tuple[float, float]) -> bool:
    return all(
        a.shape == b.shape and torch.allclose(a, b, *rounding, equal_nan=True)
        for a, b in zip(found, expected, strict=True)
    )


@contextmanager
def _random_state_kept() -> Iterator[Callable[[], None]]:
    """Random generators as they were afterwards; gives a function that puts them back meanwhile."""
    python, arrays = random_module.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        tensors = torch.get_rng_state()

        def restart() -> None:
            random_module.setstate(python)
            np.random.set_state(arrays)  # noqa: NPY002
            torch.set_rng_state(tensors)

        yield restart
        restart()


@contextmanager
def _without_dropout(model: nn.Module) -> Iterator[None]:
    active = [m for m in model.modules() if isinstance(m, _DropoutNd) and m.training]
    for module in active:
        module.training = False
    try:
        yield
    finally:
        for module in active:
            module.training = True
