"""Training processes killed with SIGKILL at random moments: what is spent stays spent, and all records agree."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reticent.accounting import Composition, SubsampledGaussian
from reticent.governance import Ledger
from reticent.records import RunFolder

STEPS, KILLS = 30, 20
OPTIONS = ["--noise-multiplier", "1.5", "--steps", str(STEPS), "--sampling-rate", "0.3", "--model-argument", "width=8"]
MECHANISM = SubsampledGaussian(1.5, 0.3, STEPS)

# Forks a process for every command line: each starts with everything imported, in milliseconds.
FORKER = """
import json, os, signal, sys
import matplotlib.figure, monai.transforms, sklearn.metrics, torch, torch._dynamo
import reticent.report, reticent.training
from reticent.cli import main
torch.set_num_threads(1)
while line := sys.stdin.readline():
    pid = os.fork()
    if pid == 0:
        log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1), os.dup2(log, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
        sys.argv = ["reticent", *json.loads(line)]
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            import traceback
            traceback.print_exc()
            status = 99
        os._exit(status)
    print(pid, flush=True)
    sys.stdin.readline()  # until then the id is the child's, also if it has ended
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Forker:
    def __init__(self, log: Path):
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, "-c", FORKER, str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, *arguments, kill_after=None, kill_when=None, with_signal=signal.SIGKILL):
        """The exit code of a command (minus the signal's number if it was killed), and the seconds it took."""
        self._send(json.dumps([str(a) for a in arguments]))
        pid, began = int(self.process.stdout.readline()), time.monotonic()
        if kill_after is not None:
            time.sleep(kill_after)
        while kill_when is not None and not kill_when():
            assert time.monotonic() < began + 60, self.log.read_text()
            time.sleep(0.01)
        if kill_after is not None or kill_when is not None:
            os.kill(pid, with_signal)
        self._send("reap")
        return int(self.process.stdout.readline()), time.monotonic() - began

    def _send(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


@pytest.fixture
def forker(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    forker = Forker(tmp_path / "log.txt")
    yield forker
    forker.close()


def started_steps(folder):
    """None where the run was killed between its reservation and the making of its journal."""
    if not folder.journal.exists():
        return []
    return [json.loads(line)["step"] for line in folder.journal.read_text().splitlines() if line.startswith('{"step"')]


def has_started(path, steps):
    """Whether a run's journal holds so many lines."""
    journal = RunFolder(path).journal
    return lambda: journal.exists() and len(journal.read_text().splitlines()) >= steps


def assert_spent_as_started(folder, site_ledger):
    """After a kill: no step twice, none beyond the plan, and the whole reservation is charged."""
    state = folder.state()
    steps = started_steps(folder)
    assert steps == sorted(set(steps))
    assert len(steps) <= STEPS
    with Ledger.open(site_ledger) as site:
        site.verify(state.anchors)
        events = [entry for entry in site.entries() if entry.run == state.run and entry.event != "resume"]
    assert [entry.event for entry in events] in (["reserve"], ["reserve", "settle"])
    assert all(entry.mechanism == MECHANISM.to_dict() for entry in events)
    return steps


def finish(forker, folder):
    """Resume until the run is finished; a process may have been killed after that, before its report."""
    if folder.state().status != "finished":
        code, _ = forker.run("train", "--resume", folder.path)
        assert code == 0, forker.log.read_text()[-2000:]


def test_runs_killed_at_twenty_random_moments_resume_and_journal_ledger_and_statement_agree(
    forker, write_cohort, tmp_path, site_ledger
):
    choose = random.Random(os.urandom(8))
    train = ["train", write_cohort(), *OPTIONS, "--out"]
    code, duration = forker.run(*train, tmp_path / "whole")
    assert code == 0, forker.log.read_text()
    runs, reserved, kills, path = [RunFolder(tmp_path / "whole")], 1, 0, None
    while kills < KILLS:
        fresh = path is None
        if fresh:
            path = tmp_path / f"run-{reserved}"
            reserved += 1
        arguments = [*train, path] if fresh else ["train", "--resume", path]
        code, _ = forker.run(*arguments, kill_after=choose.uniform(0, duration))
        assert code in (0, -signal.SIGKILL), forker.log.read_text()[-2000:]
        kills += code != 0
        folder = RunFolder(path)
        if not (folder.private / "run.json").exists():  # killed before it began; resuming says so
            if (path / "study.toml").exists():
                assert forker.run("train", "--resume", path)[0] == 2
            path = None
            continue
        assert_spent_as_started(folder, site_ledger)
        if fresh:
            runs.append(folder)
        if folder.state().status == "finished" or choose.random() < 0.2:
            path = None
    for folder in runs:
        finish(forker, folder)
        lines = len(folder.journal.read_text().splitlines())
        assert lines == folder.statement().steps == STEPS
        assert len(assert_spent_as_started(folder, site_ledger)) >= STEPS - KILLS
        assert folder.statement().mechanism == MECHANISM.to_dict()
        assert not list(folder.release.glob(".*"))
    with Ledger.open(site_ledger) as site:
        entries = site.entries()
        spent = site.spent("patient 1")
    by_run = {folder.state().run for folder in runs}
    assert [sum(e.event == event and e.run in by_run for e in entries) for event in ("reserve", "settle")] == [
        len(runs), len(runs),
    ]  # fmt: skip
    # Every reservation stays charged, also of runs killed before they began.
    reservations = sum(entry.event == "reserve" for entry in entries)
    assert len(runs) <= reservations <= reserved
    assert spent == Composition((MECHANISM,) * reservations)


def test_ctrl_c_ends_with_130_and_leaves_a_run_that_resumes(forker, write_cohort, tmp_path, site_ledger):
    path = tmp_path / "run"
    arguments = ["train", write_cohort(), *OPTIONS, "--steps", "3000", "--out", path]
    code, _ = forker.run(*arguments, kill_when=has_started(path, 5), with_signal=signal.SIGINT)
    text = forker.log.read_text()
    assert code == 130, text
    assert "Traceback" not in text
    assert f"reticent train --resume {path}" in " ".join(text.split())
    folder = RunFolder.open(path, finished=False)
    assert folder.checkpoint.exists()
    assert 0 < len(started_steps(folder)) < 3000
    more = has_started(path, len(started_steps(folder)) + 5)
    again, _ = forker.run("train", "--resume", path, kill_when=more, with_signal=signal.SIGINT)
    assert again == 130
    with Ledger.open(site_ledger) as site:
        assert [entry.event for entry in site.entries()] == ["reserve", "resume"]


def test_a_step_torn_in_writing_is_spent(forker, write_cohort, tmp_path):
    path = tmp_path / "run"
    arguments = ["train", write_cohort(), *OPTIONS, "--out", path]
    forker.run(*arguments, "--steps", "3000", kill_when=has_started(path, 5))
    folder = RunFolder.open(path, finished=False)
    started = len(folder.journal.read_text().splitlines())
    with folder.journal.open("a") as file:
        file.write('{"st')  # as after a kill in the middle of a write
    forker.run("train", "--resume", path, kill_when=has_started(path, started + 5))
    steps = started_steps(folder)
    assert started not in steps
    assert started + 1 in steps
    assert steps == sorted(set(steps))
