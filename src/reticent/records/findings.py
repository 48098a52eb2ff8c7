"""Findings of audits: what an attack achieved on a run, beside what is guaranteed. Append-only, in `findings/`."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from reticent.records.files import write_json
from reticent.records.run_folder import RunFolder, now, read_record
from reticent.records.statement import Number

FINDING_SCHEMA: Final = "reticent.finding/1"
GAP_LEVEL: Final = 1e-3
"""A finding contradicts its guarantee if what was observed is less likely than this under the guarantee."""


class Interval(BaseModel):
    """A confidence interval; of an empirical lower bound without an upper end."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lower: float
    upper: float | None
    confidence: float


class Finding(BaseModel):
    """What one attack achieved, in one metric."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: Literal["reticent.finding/1"] = Field(default=FINDING_SCHEMA, alias="schema")
    attack: str
    """Name in the registry of attacks: "one-run", "lira", "gradient-inversion"."""
    asset: str
    """What is attacked: "membership of a patient", "image of a patient", "label"."""
    adversary: str
    """What the adversary knows and may do, in one sentence."""
    metric: str
    """"epsilon", "mu", "TPR at FPR 1 %", "SSIM", "re-identification rate"."""
    value: float
    interval: Interval | None = None
    baseline: float | None = None
    """What guessing, the prior alone or the mean image gives in the same metric."""
    kind: Literal["estimate", "empirical lower bound"]
    """An empirical lower bound holds at the confidence of `interval`, whose lower end is `value`."""
    guarantee: Number | None = None
    """The certified bound in force, in the same metric, where there is one."""
    p_value: float | None = None
    """Most that the chance of such a result can be if the guarantee holds, corrected for all tests of the audit."""
    reading: str
    """One plain sentence for a privacy officer."""
    left_out: tuple[str, ...] = ()
    """What this attack does not cover."""
    settings: dict[str, Any] = {}
    seed: int | None = None
    seconds: float
    created: str = Field(default_factory=now)
    figures: tuple[str, ...] = ()
    """Names of files under `private/audits/ATTACK/`: personal data, never in `release/`."""

    @property
    def exceeds(self) -> bool:
        """Whether the attack achieved more than the guarantee admits.

        By the p-value at `GAP_LEVEL` where there is one; else whether the lower end of the interval (of an empirical
        lower bound, the value) lies above the guaranteed upper bound.
        """
        if self.guarantee is None or self.guarantee.upper is None:
            return False
        if self.p_value is not None:
            return self.p_value < GAP_LEVEL
        if self.interval is not None:
            return self.interval.lower > self.guarantee.upper
        return self.kind == "empirical lower bound" and self.value > self.guarantee.upper


def append_finding(run: RunFolder, finding: Finding) -> Path:
    """Write `findings/NNN-ATTACK.json` under the next free number, for its owner alone to read, and return its path.

    Raises:
        InputError: it cannot be written.
    """
    with _locked(run.findings):
        taken = [int(path.name.partition("-")[0]) for path in _files(run)]
        path = run.findings / f"{max(taken, default=0) + 1:03d}-{finding.attack}.json"
        write_json(path, finding.model_dump(mode="json", by_alias=True), mode=0o600)
    return path


def read_findings(run: RunFolder) -> list[Finding]:
    """All findings of a run, oldest first.

    Raises:
        InputError: one is of another version or was altered.
    """
    return [read_record(Finding, path) for path in _files(run)]


def _files(run: RunFolder) -> list[Path]:
    return sorted(run.findings.glob("[0-9]*-*.json"), key=lambda path: int(path.name.partition("-")[0]))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep two audits of one run from taking the same number."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
