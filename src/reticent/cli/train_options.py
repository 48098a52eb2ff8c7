"""Flags of `reticent train`, and where each goes in the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reticent.errors import InputError

_PLACES = {
    "unit": ("cohort", "unit"),
    "column": ("cohort", "columns"),
    "label": ("cohort", "labels"),
    "pretrain": ("cohort", "pretrain"),
    "marker": ("cohort", "markers"),
    "acquisition": ("cohort", "acquisition"),
    "target": ("cohort", "targets"),
    **{name: ("cohort", name) for name in ("faces", "reference", "length", "profile")},
    "image_size": ("cohort", "image_size"),
    "normalise": ("cohort", "normalise"),
    "grey": ("cohort", "grey"),
    "spacing": ("cohort", "spacing"),
    "patch_size": ("cohort", "patch_size"),
    "window": ("cohort", "window"),
    **{
        name: ("privacy", name)
        for name in (
            "epsilon", "delta", "mu", "advantage", "noise_multiplier", "non_private", "noise", "bands",
            "sampling_rate", "steps", "epochs", "max_norm", "max_records_per_subject", "batch_size",
            "private_activations", "feature_dimension", "label_epsilon", "budget", "seed",
        )
    },
    "model": ("model", "name"),
    "model_argument": ("model", "arguments"),
    **{
        name: ("model", name)
        for name in ("scale_norm", "standardise_weights", "init_from", "init_origin", "fine_tune", "lora_rank")
    },
    **{
        name: ("training", name)
        for name in (
            "optimiser", "learning_rate", "temperature", "prior_precision", "posterior_samples", "schedule", "augment",
            "views", "foreground", "ema_decay", "bias_aware", "clipping", "class_weights", "memory_mb", "twin", "loss",
            "shrinkage", "mask_weight",
        )
    },
}  # fmt: skip


def study_values(cohort: str, flags: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Nested study values from a cohort or a study file and the flags that were given; and the source's name."""
    from reticent.data import absolute_address
    from reticent.records import put_over

    from_file = cohort.endswith(".toml")
    values = file_values(Path(cohort)) if from_file else {"cohort": {"uri": absolute_address(cohort)}}
    changes: dict[str, dict[str, Any]] = {}
    for name, value in given_flags(flags).items():
        section, key = _PLACES[name]
        changes.setdefault(section, {})[key] = _parse(name, value)
    return put_over(values, changes), cohort if from_file else "options"


def given_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Those that were said: 0 is a value like any other."""
    return {name: value for name, value in flags.items() if value is not None and value != [] and value is not False}


def file_values(path: Path) -> dict[str, Any]:
    """The sections of a study file that names its cohort."""
    from reticent.records import read_study

    values = read_study(path)
    for section, content in values.items():
        if section != "schema" and not isinstance(content, dict):
            raise InputError(f"{path}: {section} is not a table; write it as [{section}]")
    if "uri" not in values.get("cohort", {}):
        raise InputError(f"{path}: names no cohort; add uri = … under [cohort]")
    return values


def _parse(name: str, value: Any) -> Any:
    if name in ("image_size", "patch_size"):
        return tuple(_number(name, part, int) for part in value.lower().split("x"))
    if name == "spacing":
        return tuple(_number(name, part, float) for part in value.lower().split("x"))
    if name == "window":
        from reticent.data import parse_window

        return parse_window(value)
    if name == "target":
        return {target: _range(target, declared) for target, declared in pairs(name, value).items()}
    if name == "shrinkage":
        return tuple(_number(name, part, float) for part in value.split(","))
    if name == "class_weights" and value not in ("none", "counted"):
        return tuple(_number(name, part, float) for part in value.split(","))
    if name in ("column", "marker", "model_argument"):
        return pairs(name, value)
    return value


def _range(target: str, declared: str) -> tuple[float, ...]:
    """The two numbers of LOW,HIGH."""
    numbers = tuple(_number("target", part, float) for part in declared.split(","))
    if len(numbers) != 2:
        raise InputError(f"--target {target}={declared}: write the range that is possible as {target}=LOW,HIGH")
    return numbers


def pairs(name: str, items: Sequence[str]) -> dict[str, Any]:
    """The values of a repeated NAME=VALUE option; an argument of a network is a TOML value, else text."""
    return dict(_pair(name, item) for item in items)


def _pair(name: str, item: str) -> tuple[str, Any]:
    key, found, value = item.partition("=")
    if name == "marker":
        return key, value
    if not found:
        form = "NAME=LOW,HIGH, with the range that is possible, in its unit" if name == "target" else "NAME=VALUE"
        raise InputError(f"--{name.replace('_', '-')} {item!r}: write it as {form}")
    if name in ("column", "target"):
        return key, value
    import tomllib

    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def _number(name: str, text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise InputError(f"--{name.replace('_', '-')}: {text!r} is not a number") from None
