"""First weights from public files."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from reticent.errors import InputError
from reticent.models import transfer_encoder
from reticent.records import PrivacyStatement, RunFolder, Study, read_json


def public_weights(study: Study) -> dict[str, str] | None:
    """SHA-256, file name and declared origin of the first weights, for the record.

    Raises:
        InputError: the file cannot be read; or it lies in a run's release that says it is not releasable, and the study
            is private.
    """
    path = study.model.init_from
    if path is None:
        return None
    statement = path.with_name("privacy.json")
    if statement.is_file() and not study.privacy.non_private and not read_json(statement).get("releasable"):
        raise InputError(f"{path}: these weights are not releasable ({statement}), so they are not public")
    digest = hashlib.sha256(_bytes(path)).hexdigest()
    return {"file": path.name, "sha256": digest, "origin": str(study.model.init_origin)}


def earlier_runs(study: Study) -> Iterator[RunFolder]:
    """The run of this site that the first weights are of, the run that it started from in turn, and so on."""
    path = study.model.init_from
    while path is not None and (path.parent.parent / "private" / "subjects.csv").is_file():
        run = RunFolder(path.parent.parent)
        yield run
        path = run.study().model.init_from


def require_apart(study: Study, held_out: set[str]) -> None:
    """See that no held-out subject, by pseudonym, was trained on by an earlier run that the first weights come from.

    Warns where that run is releasable, which bounds what its weights hold of anybody.

    Raises:
        InputError: it is not, and metrics on such subjects would be no evidence.
    """
    for run in earlier_runs(study):
        seen = len(held_out & run.training_pseudonyms())
        if not seen:
            continue
        told = (
            f"{study.model.init_from}: {run.path}, where these weights come from, was trained on {seen} of "
            f"{len(held_out)} held-out {study.cohort.unit}s"
        )
        if not run.statement().releasable:
            raise InputError(f"{told}, so that metrics would be no evidence; hold the same out in both runs")
        warnings.warn(f"{told}; their metrics may be too good", stacklevel=3)


def shared_statements(study: Study, trained: set[str]) -> tuple[PrivacyStatement, ...]:
    """Statements of the earlier runs that were trained on some of these subjects, by pseudonym.

    Whoever has the new weights has something of all of them. What is composed into one of them is not named again.
    """
    found, known = list[PrivacyStatement](), set[str]()
    for run in earlier_runs(study):
        statement = run.statement()
        if statement.run not in known and trained & run.training_pseudonyms():
            found.append(statement)
            known |= {statement.run, *statement.composed_runs}
    return tuple(found)


def load_weights(model: nn.Module, path: Path) -> int:
    """Load a safetensors file or a torch state dict into the model; how many of its tensors start from it.

    A head of another shape stays as it is; weights of a whole network can start the `encoder` of this one. Warns of
    tensors that only one of the two has: what is missing keeps its random start.

    Raises:
        InputError: the file is not of these kinds, or no tensor fits the model.
    """
    values, own = read_weights(path), model.state_dict().keys()
    try:
        matched = transfer_encoder(values, model)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    inside = {f"encoder.{name}" for name in values}
    named = values.keys() if len(own & values.keys()) >= len(own & inside) else inside
    for who, missing in (("the file", own - named), ("the network", named - own)):
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            warnings.warn(
                f"{path}: {matched} of the network's {len(own)} tensors start from it; {who} has no "
                f"{min(missing)!r}{more}; is it the same network, with the same options?",
                stacklevel=2,
            )
    return matched


def write_checkpoint(states: Mapping[str, Any], path: Path) -> None:
    """`torch.save` by way of memory: on a full disk it would raise a RuntimeError, where this raises OSError."""
    buffer = io.BytesIO()
    torch.save(states, buffer)
    path.write_bytes(buffer.getbuffer())


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or a torch state dict, by name; raises InputError for anything else."""
    _bytes(path)
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, weights_only=True, map_location="cpu")
    except (SafetensorError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise InputError(f"{path}: neither a safetensors file nor a torch state dict ({error})") from error


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
