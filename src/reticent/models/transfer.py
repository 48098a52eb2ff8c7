"""Weights of one network as the first ones of another."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from reticent.errors import InputError


def transfer_encoder(source: nn.Module | Mapping[str, Tensor], model: nn.Module) -> int:
    """Load every tensor of `source` that has the name and shape of one of the model's; how many those are.

    A layer of which one tensor has another shape, as a head for other classes, stays as it is. Where more fit that way,
    the source is taken for the model's `encoder` alone.

    Raises:
        InputError: no tensor fits: a transfer that does nothing is never silent.
    """
    values = source.state_dict() if isinstance(source, nn.Module) else dict(source)
    own = model.state_dict()
    fitting = max((_fitting(values, own, prefix) for prefix in ("", "encoder.")), key=len)
    if not fitting:
        raise InputError(f"no tensor fits {type(model).__name__}; is it the same network (--model)?")
    model.load_state_dict(fitting, strict=False)
    return len(fitting)


def _fitting(values: Mapping[str, Tensor], own: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    named = {prefix + name: value for name, value in values.items() if prefix + name in own}
    others = {_layer(name) for name, value in named.items() if not _fits(value, own[name])}
    return {name: value for name, value in named.items() if _layer(name) not in others}


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _fits(value: Tensor, own: Tensor) -> bool:
    """Of one shape; a complex tensor put into a real one would lose its imaginary part."""
    return own.shape == value.shape and own.is_complex() == value.is_complex()
