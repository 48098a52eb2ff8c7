"""Whether a run folder may go on: what its ledger entries say it is, and that no copy of it went on before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from reticent.errors import InputError
from reticent.governance import Entry, Ledger
from reticent.records import RunFolder, new_run_id
from reticent.training.charging import jobs_of
from reticent.training.plan import Plan


def continue_run(folder: RunFolder, plan: Plan, site: Ledger) -> None:
    """Put a new session of the run on record, in the folder first and then in the ledger.

    A kill between the two leaves a folder that may still go on; a copy of the folder made earlier may not.

    Raises:
        InputError: the study, the noise or the groups of a campaign are not what was charged, or a copy of the folder
            went on with the run.
    """
    state = folder.state()
    entries = site.entries()
    own = [entry for entry in entries if entry.run == state.run]
    reserved, last = own[0], own[-1]
    planned = {name: job.mechanism.to_dict() for name, job in jobs_of(plan, state.run, ()).items()}
    if reserved.details["study"] != plan.study.digest() or _charged(entries, state.run) != planned:
        raise InputError(
            f"{folder.path}: study.toml or private/run.json was changed since the job was charged, or this is a phase "
            "without its campaign; restore them, or start a new run"
        )
    is_newest = last.hash in state.anchors or last.details.get("session") == state.session
    if not is_newest or (last.event == "settle" and not folder.release.exists()):
        raise InputError(
            f"{folder.path}: another copy of this run folder went on with the run, which was charged once; go on with "
            "that copy, or start a new run"
        )
    state = state.model_copy(
        update={"session": new_run_id(), "anchors": tuple(dict.fromkeys((*state.anchors, last.hash)))}
    )
    folder.write_state(state)
    if last.event != "settle":
        anchor = site.record("resume", state.run, {"session": state.session})
        folder.write_state(state.model_copy(update={"anchors": (*state.anchors, anchor)}))


def _charged(entries: Iterable[Entry], run: str) -> dict[str, Any]:
    """The mechanism of each job of a run; a phase taken out of its campaign would plan fewer."""
    jobs = (entry for entry in entries if entry.event == "reserve")
    return {job.run: job.mechanism for job in jobs if job.run == run or job.run.startswith(f"{run}-")}
