"""Weights of one network as the first ones of another."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from reticent.errors import InputError


def fitting_tensors(source: nn.Module | Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Every tensor of `source` that has the name and shape of one of the model's, by the model's names.

    None of a layer of which one tensor has another shape, as a head for other classes. Where more fit that way, the
    source is taken for the model's `encoder` alone.
    """
    values = source.state_dict() if isinstance(source, nn.Module) else dict(source)
    own = model.state_dict()
    return max((_fitting(values, own, prefix) for prefix in ("", "encoder.")), key=len)


def transfer_encoder(source: nn.Module | Mapping[str, Tensor], model: nn.Module) -> int:
    """Load the `fitting_tensors` into the model; how many those are.

    Raises:
        InputError: no tensor fits: a transfer that does nothing is never silent.
    """
    fitting = fitting_tensors(source, model)
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
