"""One private run: its place in the ledger, its run folder, its steps.

`reticent train` and a loop of one's own go through the same object, so both give the same statement and ledger entry.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import safetensors.torch
import torch
from torch import Tensor, nn

from reticent.data import Cohort
from reticent.errors import InputError
from reticent.governance import Ledger, ledger_path
from reticent.records import Journal, Metrics, RunFolder, RunState, Study, new_run_id, now, write_file
from reticent.training.active.sampling import phase_sampler
from reticent.training.banded_noise import banded_noise
from reticent.training.charging import give_back, reserve, settle
from reticent.training.class_counts import counted_weights
from reticent.training.continuation import continue_run
from reticent.training.cyclic_sampling import CyclicSampler, cyclic_sampler
from reticent.training.engine import ClippedGrad
from reticent.training.following import led_by_rank_zero, next_batch
from reticent.training.langevin import at_temperature, run_temperature
from reticent.training.noise import RandomSource, SeededSource, SystemSource
from reticent.training.plan import Plan, expected_batch_size, expected_subjects, make_plan
from reticent.training.preconditions import check_training, earlier_statements
from reticent.training.prepared_cohort import PreparedCohort, Progress
from reticent.training.publishing import make_statement
from reticent.training.ranks import ALONE, Ranks
from reticent.training.sharding import load_whole_state, own_part, set_gradients, whole, whole_state
from reticent.training.weights import public_weights, require_apart, write_checkpoint

_STARTED = "steps started"


@dataclass
class Step:
    """One step, already spent: a Poisson batch of subjects, and the noise it takes. Everything in it is private.

    Of several ranks each has its share of the batch, whole subjects.
    """

    index: int
    records: list[int]
    """Indices into the cohort's entries, for loaders of one's own."""
    units: Tensor
    """The subject of each record, LongTensor (n,)."""
    _run: PrivateRun
    _noised: bool = field(default=False, init=False)

    @property
    def batch(self) -> dict[str, Any]:
        """`inputs`, `targets` by name, and `share` (1 / records of its subject), records first.

        With `patch_size`, as many patches of each record as the study has `views`, one after another.
        """
        return self._run.data.training_batch(self.records, self.units.tolist())

    def privatise(self, model: nn.Module, gradients: ClippedGrad) -> None:
        """Set every `.grad` to (clipped sum over all ranks + noise) / expected batch size.

        The noise is drawn once, by rank 0. Of an FSDP2 model each rank gets the gradient of its shards, a DTensor.

        Raises:
            InputError: the gradients were clipped to a larger norm than the study accounts for, or not by subject; or
                the model wrote into a buffer or a frozen parameter.
            RuntimeError: this step's noise was used before; a batch is released once.
        """
        run, privacy, noise = self._run, self._run.plan.study.privacy, self._run.noise
        if self._noised:
            raise RuntimeError("this step was privatised before; a batch is released once")
        if privacy.private_activations:
            raise InputError(
                "the study releases features with noise, not gradients; take private_activations out of it"
            )
        sensitivity = gradients.sensitivity(run.plan.mechanism.neighbouring_relation)
        if noise is None:
            raise InputError("the study says --non-private: there is no noise to add")
        if not sensitivity <= privacy.max_norm * (1 + 1e-6):
            raise InputError(f"gradients clipped to {sensitivity:g}, but the study accounts for {privacy.max_norm:g}")
        if gradients.n_units > len(self.units.unique()):
            raise InputError(
                f"gradients clipped for more units than the step drew {run.plan.study.cohort.unit}s; "
                "call clipped_grad with units=step.units"
            )
        run.require_unwritten(model, gradients.sum)
        self._noised = True

        def privatised(name: str, total: Tensor) -> Tensor:
            return (total + noise.draw(self.index, name, total)) / run.batch_size

        set_gradients(model, gradients.sum, privatised, run.ranks)


class PrivateRun:
    """Open with `start` or `resume`, as a context manager; iterate over `steps()`; end with `finish`.

    Where `torchrun` launched several processes, each calls the same methods; rank 0 owns ledger, journal and folder.
    """

    ranks: Ranks = ALONE

    def __init__(
        self, folder: RunFolder, plan: Plan, data: PreparedCohort, ledger: Ledger, journal: Journal, progress: Progress
    ) -> None:
        self.folder, self.plan, self.data, self.ledger, self._progress = folder, plan, data, ledger, progress
        self.state, self.journal = folder.state(), journal
        self.task = data.task
        self._fixed: dict[str, Tensor] | None = None
        seed = plan.study.privacy.seed
        self.source: RandomSource = SystemSource() if seed is None else SeededSource(seed, self.journal.started)
        self._subjects = data.subjects("train")
        groups = f"groups of run {self.state.run}"
        key = ledger.derive_key(groups) if seed is None else b"groups of seed %d" % seed
        self.sampler = _sampler(plan, self._subjects, key)
        self.noise = banded_noise(plan, self.source)

    @classmethod
    @led_by_rank_zero
    def start(
        cls,
        study: Study,
        cohort: Cohort,
        out: Path,
        *,
        ledger: Path | None = None,
        plan: Plan | None = None,
        progress: Progress = lambda stage, done, total: None,
    ) -> Self:
        """Plan the noise, reserve the whole job in the ledger, make the run folder, then read the images.

        Raises:
            InputError: the target or budget does not admit the job, the folder exists, or an image cannot be read; then
                nothing was drawn, nothing is charged beyond bought class counts, and no folder is left.
        """
        plan = plan or make_plan(study, len(cohort.classes))
        study = plan.study
        site = Ledger.open(ledger_path(ledger))
        data = PreparedCohort(cohort, study, site.derive_key("split"))
        check_training(data, plan)
        require_apart(study, {site.pseudonym(s) for split in ("val", "test") for s in data.subjects(split)})
        earlier = earlier_statements(plan, {site.pseudonym(s) for s in data.subjects("train")})
        plan = at_temperature(plan, len(data.subjects("train")))
        study = plan.study
        folder = RunFolder.create(out, study)
        run, session, fingerprint = new_run_id(), new_run_id(), data.fingerprint(site.pseudonym)
        try:
            anchors = reserve(site, data, plan, run, session, fingerprint)
        except BaseException:
            shutil.rmtree(folder.path)
            raise
        try:
            folder.write_state(
                RunState(
                    run=run,
                    created=now(),
                    status="running",
                    cohort=cohort.name,
                    fingerprint=fingerprint,
                    task=cohort.task,
                    classes=cohort.classes,
                    inputs=data.channels,
                    image_size=data.image_size,
                    marker_scales=data.marker_scales,
                    ranges=cohort.ranges,
                    session=session,
                    noise_multiplier=plan.noise_multiplier,
                    count_noise_multiplier=plan.count_noise_multiplier,
                    class_weights=_class_weights(plan, data),
                    public_weights=public_weights(study),
                    earlier_runs=tuple(
                        run for statement in earlier for run in (statement.run, *statement.composed_runs)
                    ),
                    earlier_mechanisms=tuple(statement.mechanism for statement in earlier),
                    effective_temperature=run_temperature(plan, len(data.subjects("train"))),
                    ledger=str(ledger_path(ledger).resolve()),
                    anchors=anchors,
                )
            )
            folder.write_subjects(data.membership(site.pseudonym))
            data.decode(folder.private / "cache", progress)
            data.require_masks()
        except InputError:
            shutil.rmtree(folder.path)  # first: the ledger may need the room
            give_back(site, plan, run, data.subjects("train"))
            raise
        return cls(folder, plan, data, site, Journal(folder.journal, study.privacy.steps), progress)

    @classmethod
    @led_by_rank_zero
    def resume(
        cls,
        folder: RunFolder,
        cohort: Cohort,
        *,
        ledger: Path | None = None,
        plan: Plan | None = None,
        progress: Progress = lambda stage, done, total: None,
    ) -> Self:
        """Continue a run that was interrupted; steps that were started stay spent.

        The phase of a campaign needs the `plan` that it was started with.

        Raises:
            InputError: the run is finished or in use, the cohort or the study is another one, the ledger does not hold
                the run, or another copy of the folder went on with it.
        """
        state, study = folder.state(), folder.study()
        if state.status == "finished":
            raise InputError(f"{folder.path}: the run is finished; there is nothing to resume")
        journal = Journal(folder.journal, study.privacy.steps)
        try:
            return cls._resume(folder, cohort, ledger, plan, journal, progress)
        except BaseException:
            journal.close()
            raise

    @classmethod
    def _resume(
        cls,
        folder: RunFolder,
        cohort: Cohort,
        ledger: Path | None,
        plan: Plan | None,
        journal: Journal,
        progress: Progress,
    ) -> Self:
        state, study = folder.state(), folder.study()
        plan = plan or Plan(study, state.noise_multiplier, state.count_noise_multiplier, len(state.classes))
        site = Ledger.open(ledger or Path(state.ledger))
        site.verify(state.anchors)
        data = PreparedCohort(cohort, study, site.derive_key("split"), state)
        if data.fingerprint(site.pseudonym) != state.fingerprint:
            raise InputError(
                f"{folder.path}: {cohort.uri} is not the cohort that the run started with (other subjects or records); "
                "restore it, or start a new run"
            )
        if public_weights(study) != state.public_weights:
            raise InputError(f"{study.model.init_from}: not the first weights that the run started with; restore them")
        continue_run(folder, plan, site)
        data.decode(folder.private / "cache", progress)
        return cls(folder, plan, data, site, journal, progress)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.journal.close()
        self.ledger.close()

    @property
    def max_norm(self) -> float:
        return self.plan.study.privacy.max_norm

    @property
    def batch_size(self) -> float:
        """Expected subjects per step: a constant, never the size of the batch drawn."""
        return expected_batch_size(self.plan.study, len(self._subjects))

    @property
    def expected_subjects(self) -> float:
        """Number of training subjects as far as it shapes the updates, see `expected_subjects`."""
        return expected_subjects(self.plan.study, len(self._subjects))

    def steps(self) -> Iterator[Step]:
        """The steps that are left; each is durably spent before its batch is drawn."""
        while self.journal.started < self.journal.planned:
            index, records, units = next_batch(
                self.ranks, self.journal, lambda step: self.sampler.draw(step, self.source)
            )
            yield Step(index, records, torch.tensor(units, dtype=torch.long), self)
            self._progress("Training", index + 1, self.journal.planned)

    def save(self, **objects: Any) -> None:
        """Keep the `state_dict()` of each object for `restore`; no random state is stored.

        Every rank calls it: sharded tensors are kept whole, DDP models under the names of the module inside.
        """
        states = {name: whole_state(thing) for name, thing in objects.items()} | {_STARTED: self.journal.started}
        if self.ranks.leads:
            write_file(self.folder.checkpoint, lambda path: write_checkpoint(states, path))

    def restore(self, **objects: Any) -> bool:
        """Load what `save` kept, also on another number of ranks; False if nothing was saved yet.

        Raises:
            InputError: it is of more steps than the journal holds, which would all be made again for one charge.
        """
        if not self.ranks.first(self.folder.checkpoint.exists):
            return False
        with self.ranks.together():
            states = torch.load(self.folder.checkpoint, weights_only=True)
            if (saved := states.get(_STARTED, 0)) > self.journal.started:
                raise InputError(
                    f"{self.folder.journal}: holds {self.journal.started} steps, but the checkpoint is of {saved}; the "
                    "journal was altered. Restore it, or start a new run"
                )
        for name, thing in objects.items():
            load_whole_state(thing, states[name])
        return True

    def finish(self, weights: dict[str, Tensor], metrics: Metrics) -> None:
        """Write `release/` and the metrics, and settle the ledger: rank 0 does, while the others return.

        Every rank calls it; sharded weights are gathered.

        Raises:
            InputError: steps are left, or the weights are not finite, or complex128, which safetensors has no type for.
        """
        if self.journal.started < self.journal.planned:
            raise InputError(f"{self.journal.planned - self.journal.started} planned steps are left; run them first")
        weights = whole(weights)
        if not self.ranks.leads:
            return
        broken = [name for name, value in weights.items() if not value.isfinite().all()]
        if broken:
            raise InputError(f"{broken[0]} is not finite; lower --learning-rate. The steps stay spent.")
        if wide := [name for name, value in weights.items() if value.dtype == torch.complex128]:
            raise InputError(f"{wide[0]} is complex128, which model.safetensors cannot hold; pass it as complex64")
        study = self.plan.study
        self.folder.write_metrics(metrics)
        values = {name: value.clone(memory_format=torch.contiguous_format) for name, value in weights.items()}
        stored = safetensors.torch.save(values)
        subjects = len(self._subjects)
        statement = make_statement(
            self.plan, self.state, self.source, subjects=subjects, weights=stored,
            assumed=self.data.cohort.subjects_assumed,
        )  # fmt: skip
        self.folder.publish(statement, study, lambda path: path.write_bytes(stored))
        anchors = (*self.state.anchors, *settle(self.ledger, self.plan, self.state, self._subjects))
        shutil.rmtree(self.folder.private / "cache", ignore_errors=True)
        self.state = self.state.model_copy(update={"status": "finished", "anchors": anchors})
        self.folder.write_state(self.state)
        self.folder.checkpoint.unlink(missing_ok=True)

    def require_unwritten(self, model: nn.Module, trained: Mapping[str, Tensor]) -> None:
        """Refuse a model whose buffers or frozen parameters change between steps: they would leave without noise."""
        state = {name: own_part(value.detach()) for name, value in model.state_dict().items() if name not in trained}
        if self._fixed is None:
            self._fixed = {name: value.clone() for name, value in state.items()}
        fixed = self._fixed
        written = [name for name, value in state.items() if name not in fixed or not torch.equal(value, fixed[name])]
        if written:
            raise InputError(
                f"{written[0]!r} was written while training: patients' data would be released in it without noise.\n"
                "Use a layer without running statistics; `check_independence` names it before anything is charged."
            )


def _sampler(plan: Plan, subjects: Mapping[str, list[int]], key: bytes) -> CyclicSampler:
    privacy, phase = plan.study.privacy, plan.phase
    if phase is None:
        return cyclic_sampler(subjects, privacy, key)
    return CyclicSampler((phase_sampler(subjects, phase.groups, phase.rates, privacy.max_records_per_subject),))


def _class_weights(plan: Plan, data: PreparedCohort) -> tuple[float, ...] | None:
    declared, cohort = plan.study.training.class_weights, data.cohort
    if declared != "counted":
        return None if declared == "none" else declared
    assert plan.count_noise_multiplier is not None
    seed = plan.study.privacy.seed
    labels: list[list[Any]] = [[cohort.entries[i].label for i in own] for own in data.labelled("train").values()]
    source = SystemSource() if seed is None else SeededSource(seed, 0, 1)
    return counted_weights(labels, len(cohort.classes), plan.count_noise_multiplier, source)
