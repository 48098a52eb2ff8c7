"""A sweep: one study with some options varied, as the list of studies to run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from reticent.errors import InputError
from reticent.records.options import Count
from reticent.records.overriding import put_over
from reticent.records.study import Study, make_study

Grid = dict[str, list[Any]]


@dataclass(frozen=True)
class Configuration:
    """One choice of the varied options."""

    variant: str
    """Name of the variant; empty where the sweep names none."""
    options: dict[str, Any]
    """The varied options by path, as "training.learning_rate"."""
    study: Study

    @property
    def name(self) -> str:
        """The variant and the grid's options, for tables."""
        return _name(self.variant, self.options)


@dataclass(frozen=True)
class Sweep:
    """Configurations, each run `repeats` times."""

    configurations: tuple[Configuration, ...]
    repeats: int


class _Variant(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    cohort: dict[str, Any] = {}
    privacy: dict[str, Any] = {}
    model: dict[str, Any] = {}
    training: dict[str, Any] = {}
    grid: Grid = {}


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    repeats: Count = 1
    grid: Grid = {}
    variants: dict[str, _Variant] = {}


def make_sweep(values: Mapping[str, Any], source: str, over: Grid, repeats: int | None) -> Sweep:
    """The sweep of a study file with a table [sweep], and of options given beside it.

    ```
    [sweep]
    repeats = 3
    grid = { "training.learning_rate" = [0.003, 0.01] }      # every combination, in every variant
    [sweep.variants.smoothnet]                               # options that change together
    model = { name = "smoothnet" }
    grid = { "training.ema_decay" = [0.0, 0.98] }            # a grid of its own
    ```

    Raises:
        InputError: the table or one of the studies is wrong; the message names the configuration.
    """
    options = _read(values.get("sweep", {}), source)
    base = {name: value for name, value in values.items() if name != "sweep"}
    found = []
    for name, variant in (options.variants or {"": _Variant()}).items():
        for chosen in _combinations({**options.grid, **variant.grid, **over}):
            changes = variant.model_dump(exclude={"grid"})
            for path, value in chosen.items():
                section, option = _place(path)
                changes.setdefault(section, {})[option] = value
            study = make_study(put_over(base, changes), f"{source}, {_name(name, chosen)}")
            found.append(Configuration(name, chosen, study))
    return Sweep(tuple(found), repeats or options.repeats)


def _read(values: Any, source: str) -> _Options:
    try:
        return _Options.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(("sweep", *map(str, first["loc"])))
        raise InputError(f"{source}: {where}: {first['msg']}") from None


def _combinations(grid: Grid) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _place(path: str) -> tuple[str, str]:
    section, dot, option = path.partition(".")
    if not dot:
        raise InputError(f"{path!r}: name an option with its section, as training.learning_rate")
    return section, option


def _name(variant: str, options: Mapping[str, Any]) -> str:
    chosen = [f"{path.rpartition('.')[2]} = {_shown(value)}" for path, value in options.items()]
    return ", ".join([variant] * bool(variant) + chosen) or "study"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
