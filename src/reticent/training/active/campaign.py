"""An active-learning campaign on disk: label a batch by hand, train a phase, select the next batch, and so on.

```
CAMPAIGN/label-0.csv, label-1.csv, ...   the batches to label
CAMPAIGN/phase-0/, phase-1/, ...         the run of each phase; the last one's release is the result
CAMPAIGN/private/                        campaign.json, records.csv, labels of finished batches, cohorts of phases
```
The whole folder is its owner's alone (mode 0700): it names patients.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from reticent.data import Cohort, manifest_name
from reticent.errors import InputError
from reticent.governance import Budget, Ledger
from reticent.records import (
    CampaignState,
    PlannedPhase,
    RunFolder,
    Study,
    csv_text,
    make_study,
    new_run_id,
    now,
    read_record,
    whole_folder,
    write_json,
    write_text,
)
from reticent.training.active.acquisition import acquisition
from reticent.training.active.admission import require_budget, require_plain
from reticent.training.active.label_sheet import read_sheet, write_sheet
from reticent.training.active.planning import ActivePlan, Phase
from reticent.training.active.pool_rows import ROLES, Rows, open_rows, read_rows, waiting_subjects
from reticent.training.active.scoring import pool_scores, require_dropout
from reticent.training.active.selection import private_top_k, random_k
from reticent.training.noise import RandomSource, SeededSource, SystemSource
from reticent.training.plan import CampaignPhase, Plan
from reticent.training.prepared_cohort import Progress
from reticent.training.train import check_study, resume_training, train

_INTERRUPTED = "the campaign is being worked on by another process; wait for it or stop it"


@dataclass(frozen=True)
class NextBatch:
    """A batch to label before `phase` can be trained."""

    phase: int
    sheet: Path
    subjects: int
    records: int


class Campaign:
    """A campaign's folder; `advance` goes as far as the labels allow."""

    def __init__(self, path: Path) -> None:
        self.path, self.private = path, path / "private"
        self.state = read_record(CampaignState, self.private / "campaign.json")

    @staticmethod
    def is_one(path: Path) -> bool:
        """Whether the folder holds a campaign."""
        return (path / "private" / "campaign.json").is_file()

    @classmethod
    def create(
        cls, path: Path, rows: Rows, classes: Sequence[str], study: Study, plan: ActivePlan, strategy: str, ledger: Path
    ) -> Self:
        """Check the network on made-up images, select the first batch at random and write its sheet.

        Args:
            rows: see `read_pool`.
            study: of every phase; its noise, steps and sampling rate are replaced by the plan's.

        Raises:
            InputError: the folder exists, the pool is smaller than the plan, the study asks for what the plan does not
                account for or for a smaller budget, or the network does not fit the images.
        """
        require_plain(study)
        require_budget(study, plan)
        if path.exists():
            raise InputError(f"{path}: exists already; choose another --out, or go on with `reticent label {path}`")
        subjects = waiting_subjects(rows, ())
        wanted = sum(phase.selected for phase in plan.phases)
        if wanted > len(subjects):
            raise InputError(
                f"{wanted} patients are to be labelled, but only {len(subjects)} are there; lower --query-sizes"
            )
        with whole_folder(path, "--out") as aside:
            (aside / "private").mkdir(mode=0o700)
            columns = list(rows[0])
            write_text(aside / "private" / "records.csv", csv_text(columns, rows), mode=0o600)
            _check(aside, study, classes, strategy)
            chosen = random_k(len(subjects), plan.phases[0].selected, _source(study, 0))
            state = CampaignState(
                campaign=new_run_id(),
                created=now(),
                cohort=manifest_name(Path(study.cohort.uri)),
                classes=tuple(classes),
                study=study.model_dump(mode="json", by_alias=True, exclude_none=True),
                strategy=strategy,
                epsilon=plan.epsilon,
                delta=plan.delta,
                batch_size=plan.batch_size,
                round_epsilon=plan.round_epsilon,
                phases=tuple(PlannedPhase(**vars(phase)) for phase in plan.phases),
                groups=(tuple(subjects[k] for k in chosen),),
                ledger=str(ledger.resolve()),
            )
            write_json(aside / "private" / "campaign.json", state.model_dump(mode="json", by_alias=True))
        campaign = cls(path)
        campaign._ensure_sheet()
        return campaign

    @property
    def plan(self) -> ActivePlan:
        """As it was made before the first batch."""
        state = self.state
        phases = tuple(Phase(**phase.model_dump()) for phase in state.phases)
        return ActivePlan(phases, state.epsilon, state.delta, state.batch_size, state.round_epsilon)

    @property
    def next_batch(self) -> NextBatch:
        """The newest batch that was selected."""
        phase = len(self.state.groups) - 1
        records = len(self._group_rows(phase))
        return NextBatch(phase, self._sheet(phase), len(self.state.groups[phase]), records)

    def advance(self, progress: Progress) -> RunFolder | NextBatch:
        """Read the newest batch's labels, train its phase, and select the next batch; the run after the last phase.

        What was interrupted goes on where it was. A finished campaign returns its last run.

        Raises:
            InputError: labels are missing or wrong (see `read_sheet`), a budget would be exceeded, or another process
                works on the campaign. KeyboardInterrupt leaves a campaign that `advance` continues.
        """
        with self._locked():
            self._ensure_sheet()
            phase = len(self.state.groups) - 1
            run = self._train(phase, progress)
            if phase == len(self.state.phases) - 1:
                return run
            self._select(phase + 1, run, progress)
            self._ensure_sheet()
            return self.next_batch

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.private / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(f"{self.path}: {_INTERRUPTED}") from None
            self.state = read_record(CampaignState, self.private / "campaign.json")
            yield

    def _train(self, phase: int, progress: Progress) -> RunFolder:
        """The finished run of a phase."""
        if phase:
            self._require_as_planned(phase - 1)
        self._fix_labels(phase)
        path = self.path / f"phase-{phase}"
        ledger = Path(self.state.ledger)
        cohort, plan = self._cohort(phase), self._phase_plan(phase)
        if path.exists() and not (path / "private" / "run.json").is_file():
            warnings.warn(
                f"{path}: stopped before its first step; begun anew, what it reserved stays charged", stacklevel=2
            )
            shutil.rmtree(path)
        if not path.exists():
            return train(plan.study, cohort, path, ledger=ledger, plan=plan, progress=progress)
        folder = RunFolder.open(path, finished=False)
        if folder.state().status == "finished":
            return folder
        return resume_training(folder, cohort, ledger=ledger, progress=progress, plan=plan)

    def _require_as_planned(self, phase: int) -> None:
        """Refuse to build on a phase that released something else than the plan says, by which the next one is stated.

        Raises:
            InputError: the plan was changed, the phase's weights were exchanged, or the ledger does not hold the phase.
        """
        run = RunFolder.open(self.path / f"phase-{phase}")
        statement, weights = run.statement(), hashlib.sha256(run.weights.read_bytes()).hexdigest()
        if (statement.mechanism, statement.weights_sha256) != (self.plan.guarantee(phase).to_dict(), weights):
            raise InputError(
                f"{run.path}: not what the campaign's plan says; campaign.json or the phase's release was changed "
                "since. Restore it, or begin another campaign"
            )
        with Ledger.open(Path(self.state.ledger)) as site:
            site.verify(run.state().anchors)

    def _select(self, phase: int, run: RunFolder, progress: Progress) -> None:
        """Select the group of a phase.

        Charged before a score is computed, to all who wait. A choice that a kill kept from being written was seen by
        nobody; another one is then drawn for the same charge.
        """
        plan, name = self.plan, f"{self.state.campaign}-selection-{phase}"
        size, source = plan.phases[phase].selected, _source(self._study(phase), phase)
        pool = waiting_subjects(self._rows(), self.state.groups)
        if not plan.round_epsilon:
            chosen = [pool[k] for k in random_k(len(pool), size, source)]
            self._write_state(groups=(*self.state.groups, tuple(chosen)))
            return
        with Ledger.open(Path(self.state.ledger)) as site:
            self._charge(site, name, pool, run)
            chosen = self._best(pool, size, run, source, progress)
            self._write_state(groups=(*self.state.groups, tuple(chosen)))
            site.settle(name, plan.selection())

    def _charge(self, site: Ledger, name: str, pool: Sequence[str], run: RunFolder) -> None:
        """Charge a round's noised scores to all who wait, once: a copy of the folder may not choose for it again."""
        site.verify(run.state().anchors)
        state, plan, budget, session = self.state, self.plan, run.study().privacy.budget, new_run_id()
        entries = [entry for entry in site.entries() if entry.run == name]
        if entries and (entries[-1].event == "settle" or entries[-1].details.get("session") not in state.sessions):
            raise InputError(
                f"{self.path}: another copy of this folder went on with the campaign, whose scores were charged once; "
                "go on with that copy"
            )
        self._write_state(sessions=(*state.sessions, session))  # first: a kill in between may still go on
        if entries:
            site.record("resume", name, {"session": session})
            return
        site.reserve(
            run=name,
            cohort=state.cohort,
            fingerprint=run.state().fingerprint,
            subjects=pool,
            unit=plan.unit,
            mechanism=plan.selection(),
            budget=Budget.parse(budget, plan.delta) if budget else None,
            details={"campaign": state.campaign, "strategy": state.strategy, "session": session},
        )

    def _write_state(self, **changes: Any) -> None:
        self.state = self.state.model_copy(update=changes)
        write_json(self.private / "campaign.json", self.state.model_dump(mode="json", by_alias=True))

    def _best(
        self, pool: Sequence[str], size: int, run: RunFolder, source: RandomSource, progress: Progress
    ) -> list[str]:
        """The subjects with the best noised scores."""
        made = acquisition(self.state.strategy, len(self.state.classes))
        waiting = set(pool)
        rows = [row for row in self._rows() if row["subject"] in waiting]
        cohort = open_rows(self.private / "pool.csv", rows, self.state.classes, self.state.cohort)
        cache = self.private / "cache"
        try:
            subjects, scores = pool_scores(run, cohort, made, cache, lambda k, n: progress("Reading the pool", k, n))
        finally:
            shutil.rmtree(cache, ignore_errors=True)
            (self.private / "pool.csv").unlink(missing_ok=True)
        chosen = private_top_k(scores, size, self.state.round_epsilon, made.value_range, source, largest=made.largest)
        return [subjects[k] for k in chosen]

    def _phase_plan(self, phase: int) -> Plan:
        plan = self.plan
        first = (self.path / f"phase-{phase - 1}" / "release" / "model.safetensors").resolve() if phase else None
        groups = {subject: k for k, group in enumerate(self.state.groups[: phase + 1]) for subject in group}
        own = plan.phases[phase]
        stated = CampaignPhase(groups, own.rates, plan.guarantee(through=phase), first)
        return Plan(self._study(phase), own.noise_multiplier, None, phase=stated)

    def _study(self, phase: int) -> Study:
        own, values = self.plan.phases[phase], {**self.state.study}
        privacy = {name: value for name, value in values["privacy"].items() if name != "epsilon"} | {
            "noise_multiplier": own.noise_multiplier,
            "sampling_rate": max(own.rates),
            "steps": own.steps,
            "batch_size": float(self.state.batch_size),
            "delta": self.state.delta,
        }
        cohort = values["cohort"] | {
            "uri": str((self.private / f"phase-{phase}.csv").resolve()),
            "columns": {role: role for role in ROLES},
            "labels": ["label"],
        }
        return make_study({**values, "privacy": privacy, "cohort": cohort}, str(self.path))

    def _cohort(self, phase: int) -> Cohort:
        """Those labelled so far, and those held out."""
        labels: dict[str, str] = {}
        for k in range(phase + 1):
            labels |= {row["file"]: row["label"] for row in read_rows(self._fixed_labels(k))}
        rows = [
            row if row["split"] != "unlabelled" else {**row, "split": "train", "label": labels[row["file"]]}
            for row in self._rows()
            if row["split"] != "unlabelled" or row["file"] in labels
        ]
        return open_rows(self.private / f"phase-{phase}.csv", rows, self.state.classes, self.state.cohort)

    def _fix_labels(self, phase: int) -> None:
        """Keep a batch's labels as they are when its phase begins: a resumed run must see the same ones."""
        if self._fixed_labels(phase).exists():
            return
        rows = self._group_rows(phase)
        found = read_sheet(self._sheet(phase), [row["file"] for row in rows], self.state.classes)
        labelled = [{"file": file, "label": label} for file, label in found.items()]
        write_text(self._fixed_labels(phase), csv_text(("file", "label"), labelled), mode=0o600)

    def _ensure_sheet(self) -> None:
        phase = len(self.state.groups) - 1
        if not self._sheet(phase).exists() and not self._fixed_labels(phase).exists():
            write_sheet(self._sheet(phase), self._group_rows(phase))

    def _group_rows(self, phase: int) -> list[dict[str, str]]:
        """The records of a group, subject by subject in the order of selection."""
        order = {subject: k for k, subject in enumerate(self.state.groups[phase])}
        rows = [row for row in self._rows() if row["subject"] in order]
        return sorted(rows, key=lambda row: order[row["subject"]])

    def _rows(self) -> list[dict[str, str]]:
        return read_rows(self.private / "records.csv")

    def _sheet(self, phase: int) -> Path:
        return self.path / f"label-{phase}.csv"

    def _fixed_labels(self, phase: int) -> Path:
        return self.private / f"labels-{phase}.csv"


def _check(aside: Path, study: Study, classes: Sequence[str], strategy: str) -> None:
    """Try the network on made-up images of the records' shape, and the strategy on its outputs' number."""
    rows = read_rows(aside / "private" / "records.csv")
    cohort = open_rows(aside / "private" / "pool.csv", rows, classes, "pool")
    (aside / "private" / "pool.csv").unlink()
    if study.cohort.image_size is None:
        shapes = {cohort.shape(i) for i in range(len(cohort.entries))}
        if len(shapes) > 1:
            raise InputError("images differ in size; give one size with --image-size, the same in all phases")
    entries = [replace(entry, split="train", label=0) for entry in cohort.entries]
    model = check_study(study, replace(cohort, entries=entries))
    if strategy != "random" and acquisition(strategy, len(classes)).passes > 1:
        require_dropout(model)


def _source(study: Study, phase: int) -> RandomSource:
    seed = study.privacy.seed
    return SystemSource() if seed is None else SeededSource(seed, phase, 2)
