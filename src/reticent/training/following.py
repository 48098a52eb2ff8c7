"""One run of several ranks: rank 0 opens it, the others follow; each step's batch is drawn once and dealt out.

Privacy does not depend on how subjects are dealt out: every subject of the one Poisson batch goes whole to one rank, is
clipped there, and the sum of all ranks gets the noise of the mechanism once.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from reticent.data import Cohort
from reticent.errors import InputError
from reticent.records import RunFolder
from reticent.training.plan import Plan
from reticent.training.prepared_cohort import PreparedCohort
from reticent.training.ranks import Ranks, join_ranks

if TYPE_CHECKING:
    from reticent.training.private_run import PrivateRun

P = ParamSpec("P")
R = TypeVar("R", bound="PrivateRun")


@dataclass
class FollowedJournal:
    """Stands where rank 0 has the journal: what the others know of it, and nothing that writes."""

    started: int
    planned: int

    def close(self) -> None:
        """There is nothing to close."""


class NoLedger:
    """Stands where rank 0 has the ledger."""

    def derive_key(self, purpose: str) -> bytes:
        """A key that nothing is drawn with: batches are rank 0's."""
        return purpose.encode()

    def close(self) -> None:
        """There is nothing to close."""


@dataclass(frozen=True)
class _Opened:
    """What the others must know of the run that rank 0 opened."""

    folder: Path
    plan: Plan
    splits: Sequence[str]
    started: int


def led_by_rank_zero(begin: Callable[Concatenate[type[R], P], R]) -> Callable[Concatenate[type[R], P], R]:
    """Let rank 0 alone call `begin(cls, study or folder, cohort, ...)`, which opens a run, and the others follow it.

    The result raises InputError on every rank if it is raised on one: before anything is charged if the ranks' cohorts
    differ.
    """
    signature = inspect.signature(begin)

    @wraps(begin)
    def begun(cls: type[R], *args: P.args, **kwargs: P.kwargs) -> R:
        ranks = join_ranks()
        if ranks.size == 1:
            return begin(cls, *args, **kwargs)
        cohort = signature.bind(cls, *args, **kwargs).arguments["cohort"]
        _require_same(cohort, ranks)
        own: list[R] = []

        def lead() -> _Opened:
            own.append(run := begin(cls, *args, **kwargs))
            return _Opened(run.folder.path.resolve(), run.plan, run.data.splits, run.journal.started)

        opened = ranks.first(lead)
        try:
            with ranks.together():
                run = own[0] if ranks.leads else _follow(cls, cohort, opened)
        except BaseException:
            for run in own:
                run.__exit__(None, None, None)
            raise
        run.ranks = ranks
        return run

    return begun


def next_batch(
    ranks: Ranks, journal: Any, draw: Callable[[int], tuple[list[int], list[int]]]
) -> tuple[int, list[int], list[int]]:
    """Spend a step and then draw its batch, both on rank 0; its index, and this rank's records with their units."""

    def spend() -> tuple[int, tuple[list[int], list[int]]]:
        step = journal.start_step()
        return step, draw(step)

    index, (records, units) = ranks.first(spend)
    journal.started = index + 1
    return index, *share(records, units, ranks.rank, ranks.size)


def share(records: Sequence[int], units: Sequence[int], rank: int, size: int) -> tuple[list[int], list[int]]:
    """The records of the units that fall to `rank` of `size`, in the given order; units are numbered anew from 0.

    Each unit falls whole to one rank: the largest first, to the rank with the fewest records so far.
    """
    if size == 1:
        return list(records), list(units)
    counts: dict[int, int] = {}
    for unit in units:
        counts[unit] = counts.get(unit, 0) + 1
    loads, owner = [0] * size, {}
    for unit in sorted(counts, key=lambda u: -counts[u]):
        owner[unit] = loads.index(min(loads))
        loads[owner[unit]] += counts[unit]
    numbers: dict[int, int] = {}
    own = [(record, unit) for record, unit in zip(records, units, strict=True) if owner[unit] == rank]
    return [record for record, _ in own], [numbers.setdefault(unit, len(numbers)) for _, unit in own]


def _follow(cls: type[R], cohort: Cohort, opened: _Opened) -> R:
    folder = RunFolder(opened.folder)
    if not (folder.private / "run.json").is_file():
        raise InputError(
            f"{folder.path}: the run folder is not visible to this process; put it on storage that all machines share"
        )
    data = PreparedCohort(cohort, opened.plan.study, b"the splits are rank 0's", folder.state())
    data.splits = list(opened.splits)
    data.decode(folder.private / "cache", lambda stage, done, total: None, build=False)
    journal = FollowedJournal(opened.started, opened.plan.study.privacy.steps)
    return cls(folder, opened.plan, data, NoLedger(), journal, lambda stage, done, total: None)  # type: ignore[arg-type]


def _require_same(cohort: Cohort, ranks: Ranks) -> None:
    """Refuse ranks that would mean other records by the same indices."""
    lines = [[entry.key, entry.subject, entry.label] for entry in cohort.entries]
    text = json.dumps([cohort.task, cohort.classes, dict(cohort.channels), lines])
    digest = hashlib.sha256(text.encode()).hexdigest()
    expected = ranks.first(lambda: digest)
    with ranks.together():
        if digest != expected:
            raise InputError(f"{cohort.uri}: other records than those of rank 0; give all ranks the same cohort")
