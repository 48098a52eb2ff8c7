"""Whether a run folder may go on: what its ledger entries say it is, and that no copy of it went on before."""

from __future__ import annotations

from reticent.errors import InputError
from reticent.governance import Ledger
from reticent.records import RunFolder, new_run_id
from reticent.training.plan import Plan


def continue_run(folder: RunFolder, plan: Plan, site: Ledger) -> None:
    """Put a new session of the run on record, in the folder first and then in the ledger.

    A kill between the two leaves a folder that may still go on; a copy of the folder made earlier may not.

    Raises:
        InputError: the study or the noise is not what was charged, or a copy of the folder went on with the run.
    """
    state = folder.state()
    entries = [entry for entry in site.entries() if entry.run == state.run]
    reserved, last = entries[0], entries[-1]
    if reserved.details["study"] != plan.study.digest() or reserved.mechanism != plan.charges[0].to_dict():
        raise InputError(
            f"{folder.path}: study.toml or private/run.json was changed since the job was charged; restore it, or "
            "start a new run"
        )
    own = last.hash in state.anchors or last.details.get("session") == state.session
    if not own or (last.event == "settle" and not folder.release.exists()):
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
