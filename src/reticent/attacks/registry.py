"""The attacks that `reticent audit` knows by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from reticent.attacks.loaded_run import LoadedRun
from reticent.attacks.options import AttackOptions
from reticent.records import Finding


@dataclass(frozen=True)
class Attack:
    """One line of the registry; `findings(run, options)` takes options of the type `options`."""

    name: str
    summary: str
    cost: str
    """In words, for the list of attacks: "seconds", "one training", "as many trainings as references"."""
    findings: Callable[[LoadedRun, Any], Iterator[Finding]]
    options: type[AttackOptions] = AttackOptions
    default: bool = False
    """Whether it is part of an audit that names no attack: all of these together cost at most one training."""


_ATTACKS: tuple[Attack, ...] = ()
ATTACKS: dict[str, Attack] = {attack.name: attack for attack in _ATTACKS}
