"""A finished run as an attack meets it: its records, its released model, and its patients where they are needed."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import nn

from reticent.accounting import Mechanism, mechanism_from_dict
from reticent.attacks.options import AttackOptions
from reticent.data import Cohort
from reticent.errors import InputError
from reticent.governance import Ledger
from reticent.records import PrivacyStatement, RunFolder, RunState, Study
from reticent.training import (
    GuidedClassification,
    PreparedCohort,
    Progress,
    Task,
    make_task,
    open_study_cohort,
    released_model,
)


def _silent(stage: str, done: int, total: int) -> None:
    """Nothing is shown."""


def fresh_seed() -> int:
    """A seed from the operating system, to be recorded."""
    return secrets.randbits(32)


@dataclass
class LoadedRun:
    """Open as a context manager; what is decoded for the attacks is removed at the end.

    Patients are read when `data` is first asked for, so that attacks without them work where the images are gone.
    """

    folder: RunFolder
    ledger: Path | None = None
    """Another place of the site ledger than the run recorded."""
    progress: Progress = _silent
    download: bool = False
    drawn_seed: int = field(default_factory=fresh_seed)
    """Of attacks that are given none."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        shutil.rmtree(self.cache, ignore_errors=True)

    @cached_property
    def study(self) -> Study:
        return self.folder.study()

    @cached_property
    def state(self) -> RunState:
        return self.folder.state()

    @cached_property
    def statement(self) -> PrivacyStatement:
        return self.folder.statement()

    @cached_property
    def task(self) -> Task:
        return make_task(self.state, self.study.training)

    @cached_property
    def label_task(self) -> Task:
        """The task without masks that guide it: of a network that an adversary sends in place of the run's."""
        return make_task(self.state) if isinstance(self.task, GuidedClassification) else self.task

    @cached_property
    def mechanism(self) -> Mechanism:
        """What was done to the training subjects; `Unbounded` without privacy."""
        return mechanism_from_dict(self.statement.mechanism)

    @cached_property
    def model(self) -> nn.Module:
        """The released network, in evaluation mode.

        Raises:
            InputError: the weights do not fit the network that the study names.
        """
        return released_model(self.folder).eval()

    @cached_property
    def cohort(self) -> Cohort:
        """The run's cohort.

        Raises:
            InputError: it is gone, cannot be read, or is another one than the run was trained on.
        """
        options = self.study.cohort
        try:
            return open_study_cohort(options, download=self.download)
        except InputError as error:
            raise InputError(
                f"{self.folder.path}: the cohort that the run was trained on cannot be opened, which this attack "
                f"needs: {error}"
            ) from error

    @cached_property
    def data(self) -> PreparedCohort:
        """The run's cohort with its splits, decoded: `batch` works.

        Raises:
            InputError: see `cohort`; or an image cannot be read.
        """
        with self.site() as site:
            data = PreparedCohort(self.cohort, self.study, site.derive_key("split"))
            found = data.fingerprint(site.pseudonym)
        if found != self.state.fingerprint:
            raise InputError(
                f"{self.folder.path}: {self.cohort.uri} is not the cohort that the run was trained on (other subjects "
                "or records); restore it, or give the ledger of that site with --ledger"
            )
        data.decode(self.cache, self.progress)
        return data

    def seed(self, options: AttackOptions) -> int:
        """The one asked for, else the one that was drawn."""
        return self.drawn_seed if options.seed is None else options.seed

    def repeated_study(self, **privacy: Any) -> Study:
        """The study of a training like the run's: its noise in place of a target, no budget and no twin.

        Who is trained on is the attack's to say, by the splits of its cohort: no fold of a cross-validation draws them.
        """
        study, state = self.study, self.state
        target = {"noise_multiplier": state.noise_multiplier, "epsilon": None, "mu": None, "advantage": None}
        training = {"class_weights": state.class_weights or "none", "twin": False}
        return study.model_copy(
            update={
                "cohort": study.cohort.model_copy(update={"fold": None}),
                "privacy": study.privacy.model_copy(update={**target, "budget": None, **privacy}),
                "training": study.training.model_copy(update=training),
            }
        )

    def site(self) -> Ledger:
        """The site ledger that the run was charged to, verified; a context manager.

        Raises:
            InputError: it is not there, or does not hold the run.
        """
        path = self.ledger or Path(self.state.ledger)
        if not path.is_file():
            raise InputError(f"{path}: the ledger that the run was charged to is not there; name it with --ledger")
        site = Ledger.open(path)
        site.verify(self.state.anchors)
        return site

    def work_folder(self, attack: str) -> Path:
        """`private/audits/ATTACK`, made for its owner alone: personal data, erasable, never in `release/`."""
        path = self.folder.private / "audits" / attack
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def charge(self, name: str, mechanism: Mechanism, subjects: Sequence[str], details: Mapping[str, Any]) -> None:
        """Charge in full what an attack trains on patients, once for each `name` of this run, before it reads them.

        Raises:
            InputError: a budget of these subjects does not admit it.
        """
        charged = f"{self.state.run}-{name}"
        with self.site() as site:
            if any(entry.run == charged for entry in site.entries()):
                return
            site.reserve(
                run=charged,
                cohort=self.state.cohort,
                fingerprint=self.state.fingerprint,
                subjects=subjects,
                unit=self.study.cohort.unit,
                mechanism=mechanism,
                details={"audit": name, **details},
            )
            site.settle(charged, mechanism)

    @property
    def cache(self) -> Path:
        """Where `data` is decoded."""
        return self.folder.private / "audits" / "cache"
