"""Mechanisms on the command line: the options that `train` has too, files, and short texts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reticent.errors import InputError, first_line

if TYPE_CHECKING:
    from reticent.accounting import Mechanism

_PANEL = "Mechanism"
Option = typer.Option

NoiseMultiplier = Annotated[float | None, Option(help="Noise std / clip norm.", rich_help_panel=_PANEL)]
SamplingRate = Annotated[
    float | None, Option(help="Chance of each unit at each step (1: all units).", rich_help_panel=_PANEL)
]
Steps = Annotated[int | None, Option(help="Steps (1).", rich_help_panel=_PANEL)]
Sampling = Annotated[
    str,
    Option(
        help="poisson; fixed-size (without replacement, replace-one); shuffle (batches of a shuffled cohort).",
        rich_help_panel=_PANEL,
    ),
]
Population = Annotated[int | None, Option(help="Units in all; for fixed-size.", rich_help_panel=_PANEL)]
Unit = Annotated[str, Option(help="subject (patient) or record.", rich_help_panel=_PANEL)]
Delta = Annotated[float, Option(help="Delta that epsilon is stated at.", rich_help_panel="Question")]
Json = Annotated[bool, Option("--json", help="One JSON object instead of a table.", rich_help_panel="Output")]
Plot = Annotated[Path | None, Option(help="Draw the curves into FILE (png, svg, pdf).", rich_help_panel="Output")]

SOURCE_HELP = (
    "A run folder, its privacy.json, a mechanism as JSON, or a text such as noise_multiplier=1,sampling_rate=0.01,"
    "steps=1000; another type as Laplace:noise_multiplier=2; several joined by +."
)


def mechanism_of(
    source: str | None,
    *,
    noise_multiplier: float | None,
    sampling_rate: float | None,
    steps: int | None,
    sampling: str = "poisson",
    population: int | None = None,
    unit: str = "subject",
) -> Mechanism:
    """The mechanism that a source or the options name.

    Raises:
        InputError: neither or both are given, or they name no mechanism.
    """
    if source is not None:
        if any(value is not None for value in (noise_multiplier, sampling_rate, steps, population)):
            raise InputError(f"{source} says it all; leave out --noise-multiplier, --sampling-rate, --steps")
        return mechanism_from_source(source)
    if noise_multiplier is None:
        raise InputError("name a run, a mechanism, or --noise-multiplier with --sampling-rate and --steps")
    return sampled_gaussian(noise_multiplier, sampling_rate, steps, sampling, population, unit)


def sampled_gaussian(
    noise_multiplier: float,
    sampling_rate: float | None,
    steps: int | None,
    sampling: str = "poisson",
    population: int | None = None,
    unit: str = "subject",
) -> Mechanism:
    """Gaussian noise on sums over units drawn in the way that `sampling` says.

    Raises:
        InputError: the way is unknown, or fixed-size lacks its population.
    """
    from reticent import accounting

    rate, steps = 1.0 if sampling_rate is None else sampling_rate, 1 if steps is None else steps
    if sampling == "shuffle":
        return accounting.Unbounded(accounting.SHUFFLED, unit=unit)  # type: ignore[arg-type]
    if sampling == "fixed-size":
        if population is None:
            raise InputError("--sampling fixed-size needs --population, the number of units in all")
        size = round(rate * population)
        return accounting.FixedSizeGaussian(noise_multiplier, size, population, steps, unit=unit)  # type: ignore[arg-type]
    if sampling != "poisson":
        raise InputError(f"--sampling {sampling}: give poisson, fixed-size or shuffle")
    if rate == 1:
        return accounting.Gaussian(noise_multiplier, steps, unit=unit)  # type: ignore[arg-type]
    return accounting.SubsampledGaussian(noise_multiplier, rate, steps, unit=unit)  # type: ignore[arg-type]


def mechanism_from_source(source: str) -> Mechanism:
    """The mechanism in a run folder, a privacy.json or mechanism file, or a text.

    Raises:
        InputError: there is none, or it is wrong; the message names the file or the part of the text.
    """
    from reticent.accounting import mechanism_from_dict

    path = Path(source)
    if path.is_dir():
        path = path / "release" / "privacy.json"
    if path.is_file():
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return mechanism_from_dict(data.get("mechanism", data))
        except (ValueError, AttributeError) as error:
            raise InputError(f"{path}: no mechanism ({first_line(error)})") from None
    if "=" not in source:
        raise InputError(f"{source}: no such run, file or mechanism; a mechanism is written as noise_multiplier=1,…")
    parts = [_from_text(part.strip()) for part in re.split(r"\+(?![\d.])", source)]
    if len(parts) == 1:
        return parts[0]
    from reticent.accounting import Composition

    return Composition(tuple(parts))


def _from_text(text: str) -> Mechanism:
    from reticent.accounting import mechanisms

    kind, separator, rest = text.rpartition(":")
    fields: dict[str, Any] = {}
    for part in rest.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or name in fields:
            raise InputError(f"mechanism {text!r}: {part!r} is not NAME=VALUE, or comes twice")
        fields[name] = _value(value)
    if not separator:
        kind = "SubsampledGaussian" if "sampling_rate" in fields else "Gaussian"
    found = getattr(mechanisms, kind, None) if kind in mechanisms.__all__ else None
    if not isinstance(found, type) or not hasattr(found, "to_dict"):
        raise InputError(f"mechanism {text!r}: type {kind!r} is not known")
    try:
        mechanism: Mechanism = found(**fields)
    except TypeError as error:
        problem = first_line(error).replace(f"{kind}.__init__()", kind)
        raise InputError(f"mechanism {text!r}: {problem}; lists are written in a JSON file") from None
    return mechanism


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
