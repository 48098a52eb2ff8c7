"""What in a network hurts private training, read off its layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from reticent.data import Cohort
from reticent.errors import InputError, first_line
from reticent.models import NORMS, additions_without_norm
from reticent.records import ModelOptions, make_study
from reticent.training.clipping_bias import ClippingBias, clipping_bias
from reticent.training.engine import check_independence
from reticent.training.prepared_cohort import PreparedCohort
from reticent.training.tasks import make_task
from reticent.training.train import check_study

_KINKED = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.Hardtanh)
_DEEP = 20
_NAMED = 3


@dataclass(frozen=True)
class Finding:
    """One property of a network that private training suffers from."""

    where: str
    """Names of layers, or what they have in common."""
    problem: str
    remedy: str


@dataclass(frozen=True)
class Inspection:
    """Sizes and findings of a network."""

    parameters: int
    """Trainable ones, d: the noise on a step's mean gradient has norm sqrt(d) sigma C / batch size."""
    weight_layers: int
    norms: Mapping[str, int]
    """Normalisation layers by kind."""
    findings: tuple[Finding, ...]


def inspect_model(model: nn.Module, images: Tensor) -> Inspection:
    """Look for what is known to hurt under differential privacy.

    | looked for | source |
    |---|---|
    | layers that couple records or store what they saw | `check_independence` |
    | no normalisation, one channel a group, great depth without paths around layers | Remerscheid et al. 2022 |
    | additions of paths without a norm behind them | Klause et al. 2022 |
    | dropout: variance on gradients that the noise blurs already | De et al. 2022 |
    | activations with kinks, where bias-aware minimisation sees no curvature | Knolle et al. 2023 |

    Args:
        images: two or more made-up images (n, C, ...) of the network's size.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    weights = sum(p.requires_grad and p.ndim > 1 for p in model.parameters())
    norms = Counter(type(module).__name__ for module in modules.values() if isinstance(module, NORMS))
    additions = additions_without_norm(model, images)
    return Inspection(
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        weight_layers=weights,
        norms=dict(norms),
        findings=(
            *_coupling(model, images),
            *_structure(weights, additions, bool(norms)),
            *_found(modules, _one_channel_a_group, "normalises each channel alone, and loses its size",
                    "use groups of 4 or more channels"),
            *_found(modules, _drops_out, "dropout adds variance to what the noise blurs already",
                    "set its rate to 0"),
            *_found(modules, lambda module: isinstance(module, _KINKED), "kinks: --bias-aware sees no curvature",
                    "use SELU, Mish or GELU if you want --bias-aware"),
        ),
    )  # fmt: skip


def public_gradients(
    options: ModelOptions,
    cohort: Cohort,
    records: int,
    *,
    noise_multiplier: float,
    max_norm: float,
    batch_size: float,
) -> tuple[Inspection, ClippingBias]:
    """Inspect a network for a cohort, and its gradients on some of its records, which are declared public.

    Raises:
        InputError: the network does not fit the cohort.
    """
    study = make_study(
        {"cohort": {"uri": cohort.uri, "unit": "record"}, "privacy": {"non_private": True}, "model": options}
    )
    task = make_task(cohort, study.training)
    usable = [entry for entry in cohort.entries if task.labelled(entry)]
    if not usable:
        raise InputError(f"{cohort.uri}: no record has a label or target by itself, which gradients need; name another")
    some = replace(cohort, entries=usable[:: max(1, len(usable) // records)][:records])
    model, data = check_study(study, some), PreparedCohort(some, study, b"no split is drawn")
    with TemporaryDirectory() as folder:
        data.decode(Path(folder), lambda stage, done, total: None)
        batch = data.batch(range(len(some.entries)))
    bias = clipping_bias(
        model, task.loss_fn(), batch, max_norm=max_norm, noise_multiplier=noise_multiplier, batch_size=batch_size
    )
    return inspect_model(model, torch.randn(2, sum(data.channels.values()), *data.image_size)), bias


def _coupling(model: nn.Module, images: Tensor) -> Iterator[Finding]:
    try:
        check_independence(model, images)
    except InputError as error:
        yield Finding("training is refused", first_line(error), "reticent.models.to_private(model)")


def _structure(weights: int, additions: tuple[int, int] | None, normalises: bool) -> Iterator[Finding]:
    if not normalises:
        yield Finding("all layers", "nothing is normalised: gradients differ widely in size", "add GroupNorm")
    if additions is None:
        yield Finding("forward", "cannot be read as one graph", "see for yourself if additions have norms behind them")
    elif additions[0]:
        where = f"{additions[0]} of {additions[1]} additions of paths"
        yield Finding(where, "no norm behind: variance grows with each", "--scale-norm")
    elif not additions[1] and weights > _DEEP:
        yield Finding(
            f"{weights} layers with weights", "deep without additions of paths: little signal reaches the first",
            "a wider and shallower network, as smoothnet",
        )  # fmt: skip


def _found(
    modules: Mapping[str, nn.Module], wrong: Callable[[nn.Module], bool], problem: str, remedy: str
) -> Iterator[Finding]:
    names = [name for name, module in modules.items() if wrong(module)]
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield Finding(", ".join(names[:_NAMED]) + more, problem, remedy)


def _one_channel_a_group(module: nn.Module) -> bool:
    if isinstance(module, nn.GroupNorm):
        return module.num_groups == module.num_channels > 1
    return isinstance(module, nn.modules.instancenorm._InstanceNorm)


def _drops_out(module: nn.Module) -> bool:
    return isinstance(module, _DropoutNd) and module.p > 0
