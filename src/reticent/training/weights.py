"""First weights from public files."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from reticent.errors import InputError
from reticent.records import Study, read_json
from reticent.training.learner import predicting
from reticent.training.tasks import Task


def public_weights(study: Study) -> dict[str, str] | None:
    """SHA-256, file name and declared origin of the first weights, for the record.

    Raises:
        InputError: the file cannot be read, or lies in a run's release that says it is not releasable.
    """
    path = study.model.init_from
    if path is None:
        return None
    statement = path.with_name("privacy.json")
    if statement.is_file() and not read_json(statement).get("releasable"):
        raise InputError(f"{path}: these weights are not releasable ({statement}), so they are not public")
    digest = hashlib.sha256(_bytes(path)).hexdigest()
    return {"file": path.name, "sha256": digest, "origin": str(study.model.init_origin)}


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a safetensors file or a torch state dict into the model; a head of another shape stays as it is.

    Warns of tensors that only one of the two has: what is missing keeps its random start.

    Raises:
        InputError: the file is not of these kinds, or no tensor fits the model.
    """
    values = _read(path)
    own = model.state_dict()
    fitting = {name: value for name, value in values.items() if name in own and _fits(value, own[name])}
    if not fitting:
        raise InputError(f"{path}: no tensor fits {type(model).__name__}; is it the same network (--model)?")
    for who, missing in (("the file", own.keys() - values.keys()), ("the network", values.keys() - own.keys())):
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            warnings.warn(
                f"{path}: {who} has no {min(missing)!r}{more}; is it the same network, with the same options?",
                stacklevel=2,
            )
    model.load_state_dict(fitting, strict=False)


def load_released(study: Study, model: nn.Module, path: Path, task: Task) -> nn.Module:
    """The network that predicts with a run's weights, all of them.

    Raises:
        InputError: they are not this network's.
    """
    try:
        return predicting(study, model, _read(path), task)
    except RuntimeError as error:
        raise InputError(
            f"{path}: the weights do not fit the network that the study names: {str(error).splitlines()[-1].strip()}"
        ) from error


def write_checkpoint(states: Mapping[str, Any], path: Path) -> None:
    """`torch.save` by way of memory: on a full disk it would raise a RuntimeError, where this raises OSError."""
    buffer = io.BytesIO()
    torch.save(states, buffer)
    path.write_bytes(buffer.getbuffer())


def _read(path: Path) -> dict[str, Tensor]:
    _bytes(path)
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, weights_only=True, map_location="cpu")
    except (SafetensorError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise InputError(f"{path}: neither a safetensors file nor a torch state dict ({error})") from error


def _fits(value: Tensor, own: Tensor) -> bool:
    """Of one shape; a complex tensor put into a real one would lose its imaginary part."""
    return own.shape == value.shape and own.is_complex() == value.is_complex()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
