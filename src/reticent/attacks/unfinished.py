"""An audit that was begun: its seed and what is done, so that the same one goes on after an interruption."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from reticent.attacks.loaded_run import fresh_seed
from reticent.attacks.options import AttackOptions
from reticent.errors import InputError
from reticent.records import Finding, RunFolder, append_finding, read_json, read_record, write_json

_OF_THE_MACHINE = {"jobs", "backend"}


@dataclass(frozen=True)
class UnfinishedAudit:
    """Kept in `private/audits/` from the first attack to the end of the last. Open as a context manager."""

    run: RunFolder
    path: Path
    seed: int
    """Of attacks that are given none."""
    done: dict[str, list[str]]
    """Names of the findings of every attack that ended."""

    @classmethod
    def begin(cls, run: RunFolder, planned: Mapping[str, AttackOptions]) -> Self:
        """The audit of the same attacks with the same options that was interrupted, or else a new one."""
        plan = {name: options.model_dump(mode="json", exclude=_OF_THE_MACHINE) for name, options in planned.items()}
        digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
        path = run.private / "audits" / f"unfinished-{digest[:16]}.json"
        if path.is_file():
            kept = read_json(path)
            return cls(run, path, kept["seed"], kept["done"])
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        begun = cls(run, path, fresh_seed(), {})
        begun._keep()
        return begun

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if isinstance(error, InputError) and not self.done:  # nothing was begun
            self.path.unlink(missing_ok=True)

    def add(self, attack: str, findings: Sequence[Finding]) -> None:
        """Append what an attack found, after which it is done."""
        self.done[attack] = [append_finding(self.run, finding).name for finding in findings]
        self._keep()

    def end(self) -> list[Finding]:
        """All that was found, also before an interruption; the next audit is a new one."""
        names = [name for found in self.done.values() for name in found]
        findings = [read_record(Finding, self.run.findings / name) for name in names]
        self.path.unlink()
        return findings

    def _keep(self) -> None:
        write_json(self.path, {"seed": self.seed, "done": self.done}, mode=0o600)
