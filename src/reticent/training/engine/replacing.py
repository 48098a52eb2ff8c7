"""A model with other tensors in the place of its parameters, for as long as a block runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def parameters_replaced(model: nn.Module, own: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Iterator[None]:
    """Put `values[name]` wherever the model holds the tensor `own[name]`: by identity, so that tied ones stay tied."""
    by_id = {id(p): values[name] for name, p in own.items() if values[name] is not p}
    places = [
        (module._parameters, name, parameter)
        for module in model.modules()
        for name, parameter in module._parameters.items()
        if id(parameter) in by_id
    ]
    for parameters, name, parameter in places:
        parameters[name] = by_id[id(parameter)]  # type: ignore[assignment]
    try:
        yield
    finally:
        for parameters, name, parameter in places:
            parameters[name] = parameter
