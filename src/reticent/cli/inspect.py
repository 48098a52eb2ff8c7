"""`reticent inspect`: what in a network hurts private training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from reticent.cli.console import console
from reticent.errors import InputError

if TYPE_CHECKING:
    from reticent.training import ClippingBias, Inspection

_RECORDS = 64


def command(
    model: Annotated[str, typer.Argument(help="As for `reticent train --model`.")],
    on: Annotated[
        str | None,
        typer.Option(help="PUBLIC cohort, declared so by naming it: measures gradients on 64 of its images."),
    ] = None,
    image_size: Annotated[
        str | None, typer.Option(help="Pixels, as 64x64 or 32x48x32 (32x32); a cohort's own if --on.")
    ] = None,
    channels: Annotated[int | None, typer.Option(min=1, help="Of the images (1); a cohort's own if --on.")] = None,
    classes: Annotated[int | None, typer.Option(min=2, help="Outputs (2); a cohort's own if --on.")] = None,
    model_argument: Annotated[list[str] | None, typer.Option(help="Argument of the network, as width=32.")] = None,
    scale_norm: Annotated[bool, typer.Option("--scale-norm", help="As for `train`.")] = False,
    noise_multiplier: Annotated[
        float | None, typer.Option(help="With --on: noise std / clip norm, for signal to noise (1).")
    ] = None,
    max_norm: Annotated[float | None, typer.Option(help="With --on: clip norm (1).")] = None,
    batch_size: Annotated[float | None, typer.Option(help="With --on: expected subjects per step (256).")] = None,
) -> None:
    """Show what in a network hurts under differential privacy, and with --on its signal to noise layer by layer.

    Nothing is charged: without --on no image is read, and --on is for public images alone.

    Example: reticent inspect monai:DenseNet121 --image-size 64x64
    """
    import torch

    from reticent.cli.train_options import pairs
    from reticent.records import ModelOptions
    from reticent.training import inspect_model, new_network, public_gradients

    _refuse(on is not None, "a cohort's own if --on", image_size=image_size, channels=channels, classes=classes)
    _refuse(on is None, "for --on", noise_multiplier=noise_multiplier, max_norm=max_norm, batch_size=batch_size)
    options = ModelOptions(name=model, arguments=pairs("model_argument", model_argument or ()), scale_norm=scale_norm)
    if on is None:
        size, channels = _size(image_size or "32x32"), channels or 1
        if len(size) not in (2, 3):
            raise InputError(f"--image-size {image_size}: give two or three numbers, as 64x64")
        network = new_network(options, channels, classes or 2, size)
        _print(model, inspect_model(network, torch.randn(2, channels, *size)))
        return
    from reticent.data import open_cohort

    noise, norm, batch = (
        usual if given is None else given
        for given, usual in ((noise_multiplier, 1.0), (max_norm, 1.0), (batch_size, 256.0))
    )
    found = public_gradients(
        options, open_cohort(on, unit="record", strict=False, hashed=False), _RECORDS,
        noise_multiplier=noise, max_norm=norm, batch_size=batch,
    )  # fmt: skip
    _print(model, found[0])
    _print_gradients(found[1], noise, norm, batch)


def _refuse(wrong: bool, why: str, **options: float | str | None) -> None:
    """Raise InputError if one of the options is given where none may be."""
    given = [name for name, value in options.items() if value is not None]
    if wrong and given:
        raise InputError(f"--{given[0].replace('_', '-')} is {why}; leave it out")


def _size(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        raise InputError(f"--image-size {text!r}: write it as 64x64 or 32x48x32") from None


def _print(name: str, found: Inspection) -> None:
    from rich.table import Column, Table

    norms = ", ".join(f"{count} {kind}" for kind, count in found.norms.items()) or "none"
    console.print(
        f"{name}: {found.parameters:,} parameters, {found.weight_layers} layers with weights, norms: {norms}. "
        f"The noise of a step is {found.parameters**0.5:,.0f} times as long as that of one parameter alone.",
        highlight=False, markup=False,
    )  # fmt: skip
    if not found.findings:
        console.print("Nothing is found that private training suffers from.")
        return
    columns = (Column(name, overflow="fold") for name in ("where", "problem", "remedy"))
    table = Table(*columns, title="Under differential privacy", title_justify="left")
    for finding in found.findings:
        table.add_row(finding.where, finding.problem, finding.remedy)
    console.print(table)


def _print_gradients(found: ClippingBias, noise_multiplier: float, max_norm: float, batch_size: float) -> None:
    from rich.table import Table

    console.print(
        f"On {found.units} public images with first weights: {100 * found.clipped:.0f} % are clipped at {max_norm:g} "
        f"(mean norm {found.mean_norm:.3g}); clipping turns the mean gradient by a cosine of {found.cosine:.3f} and "
        f"leaves out {100 * found.relative:.0f} % of it.",
        highlight=False, markup=False,
    )  # fmt: skip
    title = f"Signal to noise of one step (noise multiplier {noise_multiplier:g}, batch {batch_size:g})"
    table = Table("parameter", "signal / noise", title=title, title_justify="left")
    for name, value in found.signal.items():
        table.add_row(name or "all", f"{value:.3g}")
    console.print(table)
