"""Options put over those of a study file. A stored study holds every default, so that some must give way to others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reticent.errors import InputError

_TARGETS = tuple(f"privacy.{name}" for name in ("epsilon", "mu", "advantage", "noise_multiplier", "non_private"))
_OF_LANGEVIN = ("training.temperature", "training.prior_precision", "training.posterior_samples")
_GIVING_WAY = {
    **dict.fromkeys(_TARGETS, _TARGETS),
    "privacy.epochs": ("privacy.sampling_rate", "privacy.steps", "privacy.batch_size"),
    "privacy.sampling_rate": ("privacy.epochs",),
    "privacy.steps": ("privacy.epochs",),
    "training.learning_rate": ("training.temperature",),
}


def put_over(values: Mapping[str, Any], changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Nested study values with `changes`, without what contradicts them and is not among them.

    Raises:
        InputError: the changes name a temperature and the learning rate, which it sets.
    """
    named = {f"{section}.{option}": value for section, options in changes.items() for option, value in options.items()}
    if {"training.temperature", "training.learning_rate"} <= named.keys():
        raise InputError("--temperature sets the learning rate: leave out --learning-rate")
    gone = {other for name, value in named.items() for other in _giving_way(name, value)} - named.keys()
    merged = dict(values)
    for section, options in changes.items():
        if options:
            kept = {name: v for name, v in merged.get(section, {}).items() if f"{section}.{name}" not in gone}
            merged[section] = {**kept, **options}
    return merged


def _giving_way(name: str, value: Any) -> tuple[str, ...]:
    if name == "training.optimiser":
        return ("training.schedule", "training.ema_decay") if value == "langevin" else _OF_LANGEVIN
    if name == "privacy.noise":
        return ("privacy.bands",) if value == "independent" else ()
    return _GIVING_WAY.get(name, ())
