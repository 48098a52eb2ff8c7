"""The run folder: what may leave, what may not, and the state of the job.

```
RUN/release/    model.safetensors, privacy.json, study.json     may leave
RUN/private/    run.json, subjects.csv, journal.jsonl, checkpoint.pt, metrics.json    mode 0700
                features.safetensors, with private activations; explanations/, of a network on slices;
                examples/, of a detector
RUN/findings/   append-only results of audits
RUN/study.toml  the resolved study;  RUN/report.html  for readers inside the hospital
```
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reticent.errors import InputError
from reticent.records.detections import DetectionExample
from reticent.records.files import read_json, write_folder, write_json, write_text
from reticent.records.metrics import Metrics
from reticent.records.slice_explanation import SliceExplanation
from reticent.records.statement import PrivacyStatement
from reticent.records.study import Study, make_study, read_study

RUN_SCHEMA: Final = "reticent.run/1"
_T = TypeVar("_T", bound=BaseModel)


class RunState(BaseModel):
    """`private/run.json`: who the run is and how far it came."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: Literal["reticent.run/1"] = Field(default=RUN_SCHEMA, alias="schema")
    run: str
    created: str
    status: Literal["running", "finished"]
    cohort: str
    fingerprint: str
    task: str
    classes: tuple[str, ...]
    inputs: dict[str, int]
    """Input names and their channels, or the length of a vector."""
    image_size: tuple[int, ...]
    marker_scales: tuple[tuple[float, float], ...] = ()
    """Centre and scale of each component of the markers."""
    ranges: tuple[tuple[float, float], ...] = ()
    """Declared range of each target of a regression."""
    session: str
    """Random id of the process that last worked on the run; it stands in the run's newest ledger entry."""
    noise_multiplier: float | None
    """As calibrated before training; None for a non-private run."""
    count_noise_multiplier: float | None = None
    """Noise on the class counts, if they were bought."""
    class_weights: tuple[float, ...] | None = None
    """Weights by class once they are known (declared, or computed from noised counts)."""
    public_weights: dict[str, str] | None = None
    earlier_runs: tuple[str, ...] = ()
    """Those on the same subjects that the first weights come from, see `PrivacyStatement.composed_runs`."""
    earlier_mechanisms: tuple[dict[str, Any], ...] = ()
    """What they did to these subjects; one may be of several runs."""
    """File name, SHA-256 and declared origin of the first weights."""
    effective_temperature: float | None = None
    """Of a run of Langevin sampling."""
    features_sha256: str | None = None
    """Of `features.safetensors` once it was released: it is released once."""
    ledger: str
    """Path of the site ledger."""
    anchors: tuple[str, ...] = ()
    """Heads of the ledger's hash chain after this run's entries."""

    def network(self) -> dict[str, Any]:
        """What the released weights need to be used: task, classes, inputs with their channels, image size, and what is
        declared of markers and targets.
        """
        declared = {name for name in ("marker_scales", "ranges") if getattr(self, name)}
        return self.model_dump(mode="json", include={"task", "classes", "inputs", "image_size"} | declared)


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run, and its typed records."""

    path: Path

    @classmethod
    def create(cls, path: Path, study: Study) -> Self:
        """Make a new run folder.

        Raises:
            InputError: the folder exists; nothing in it is touched.
        """
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            raise InputError(
                f"{path}: exists already. Choose another --out, or continue it with `reticent train --resume {path}`"
            ) from None
        except OSError as error:
            raise InputError(f"{path}: cannot be created ({error.strerror}); choose another --out") from None
        run = cls(path)
        try:
            run.private.mkdir(mode=0o700)
            run.findings.mkdir()
            write_text(path / "study.toml", study.to_toml(), mode=0o600)
        except (OSError, InputError):
            shutil.rmtree(path)
            raise
        return run

    @classmethod
    def open(cls, path: Path, *, finished: bool = True) -> Self:
        """An existing run.

        Raises:
            InputError: not a run folder, or not finished although it must be.
        """
        run = cls(path)
        if not (run.private / "run.json").is_file():
            if (path / "study.toml").is_file():
                raise InputError(
                    f"{path}: the run was stopped before its first step and cannot be resumed (what it had reserved "
                    f"stays charged).\nRemove the folder and start anew with `reticent train {path / 'study.toml'}`"
                )
            raise InputError(f"{path}: not a run folder (no private/run.json); name the folder that `train` wrote")
        if finished and run.state().status != "finished":
            raise InputError(f"{path}: the run is not finished; continue it with `reticent train --resume {path}`")
        return run

    @property
    def private(self) -> Path:
        return self.path / "private"

    @property
    def release(self) -> Path:
        return self.path / "release"

    @property
    def findings(self) -> Path:
        return self.path / "findings"

    @property
    def journal(self) -> Path:
        return self.private / "journal.jsonl"

    @property
    def checkpoint(self) -> Path:
        return self.private / "checkpoint.pt"

    @property
    def weights(self) -> Path:
        return self.release / "model.safetensors"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def study(self) -> Study:
        path = self.path / "study.toml"
        return make_study(read_study(path), str(path))

    def state(self) -> RunState:
        return read_record(RunState, self.private / "run.json")

    def write_state(self, state: RunState) -> None:
        write_json(self.private / "run.json", state.model_dump(mode="json", by_alias=True))

    def write_subjects(self, lines: Mapping[str, tuple[str, str, int]]) -> None:
        """Membership by pseudonym: split, role, number of records."""
        rows = [f"{pseudonym},{split},{role},{records}" for pseudonym, (split, role, records) in lines.items()]
        write_text(self.private / "subjects.csv", "\n".join(["pseudonym,split,role,records", *rows]) + "\n")

    def training_subjects(self) -> int:
        """How many subjects the run trained on: private."""
        return len(self._training_lines())

    def training_pseudonyms(self) -> set[str]:
        """Who was trained on: private."""
        return {fields[0] for fields in self._training_lines()}

    def held_out_subjects(self) -> int:
        """How many subjects were held out."""
        lines = (self.private / "subjects.csv").read_text(encoding="utf-8").splitlines()[1:]
        return sum(line.split(",")[2] == "held-out" for line in lines)

    def training_records(self) -> int:
        """How many records the run trained on: private."""
        return sum(int(records) for _, _, _, records in self._training_lines())

    def _training_lines(self) -> list[list[str]]:
        lines = (self.private / "subjects.csv").read_text(encoding="utf-8").splitlines()[1:]
        return [fields for line in lines if (fields := line.split(","))[1] == "train"]

    def statement(self) -> PrivacyStatement:
        return read_record(PrivacyStatement, self.release / "privacy.json")

    def metrics(self) -> Metrics:
        return read_record(Metrics, self.private / "metrics.json")

    def write_metrics(self, metrics: Metrics) -> None:
        write_json(self.private / "metrics.json", metrics.model_dump(mode="json", by_alias=True))

    def write_explanations(self, found: Iterable[SliceExplanation]) -> None:
        """What slices gave to predictions on held-out patients, numbered."""
        folder = self.private / "explanations"
        folder.mkdir(mode=0o700, exist_ok=True)
        for number, explanation in enumerate(found, start=1):
            explanation.save(folder / f"{number}.npz")

    def write_examples(self, found: Iterable[DetectionExample]) -> None:
        """What a detector found in images of held-out patients, numbered."""
        folder = self.private / "examples"
        folder.mkdir(mode=0o700, exist_ok=True)
        for number, example in enumerate(found, start=1):
            example.save(folder / f"{number}.npz")

    def examples(self) -> list[DetectionExample]:
        """Those that were written and are still there."""
        return [DetectionExample.load(path) for path in sorted((self.private / "examples").glob("*.npz"))]

    def explanations(self) -> list[SliceExplanation]:
        """Those that were written and are still there."""
        return [SliceExplanation.load(path) for path in sorted((self.private / "explanations").glob("*.npz"))]

    def publish(self, statement: PrivacyStatement, study: Study, save_weights: Callable[[Path], object]) -> None:
        """Write `release/` in one piece, once: what a run that was then killed had published stays as it is."""
        if self.release.exists():
            return
        write_folder(
            self.release,
            {
                "model.safetensors": save_weights,
                "privacy.json": lambda path: write_json(path, statement.model_dump(mode="json", by_alias=True)),
                "study.json": lambda path: write_json(path, study.public_part() | {"network": self.state().network()}),
            },
        )


def new_run_id() -> str:
    """A fresh run id."""
    return str(uuid.uuid4())


def now() -> str:
    """The time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def default_run_path(cohort: str) -> Path:
    """`runs/COHORT-NNN`, the first that is free."""
    taken = set(os.listdir("runs")) if Path("runs").is_dir() else set()
    number = next(n for n in range(1, len(taken) + 2) if f"{cohort}-{n:03d}" not in taken)
    return Path("runs") / f"{cohort}-{number:03d}"


def read_record(kind: type[_T], path: Path) -> _T:
    """A record from its JSON file.

    Raises:
        InputError: the file is missing, is not JSON, or is no such record.
    """
    try:
        return kind.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; the file is of another version or was altered"
        ) from None
