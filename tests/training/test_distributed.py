"""Several processes train one run: the same result as one, the noise once, and a death that loses nothing spent."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from reticent.accounting import Composition, SubsampledGaussian
from reticent.governance import Ledger
from reticent.records import Journal, RunFolder
from reticent.training.following import next_batch, share
from reticent.training.ranks import ALONE

OPTIONS = [
    "--steps", "6", "--sampling-rate", "0.4", "--model-argument", "width=8", "--augment", "none", "--seed", "3",
]  # fmt: skip
NOISE = ["--noise-multiplier", "1.5"]
MANY = ["--steps", "3000", "--sampling-rate", "0.4", "--model-argument", "width=8", *NOISE]


def events(site_ledger):
    with Ledger.open(site_ledger) as site:
        site.verify()
        return [entry.event for entry in site.entries()]


def started(folder):
    return [json.loads(line)["step"] for line in folder.journal.read_text().splitlines()]


def assert_same_weights(one, other):
    weights = [safetensors.torch.load_file(folder.weights) for folder in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        # Float64 sums in another order, rounded to float32, through six steps.
        torch.testing.assert_close(value, weights[1][name], rtol=1e-5, atol=1e-6)


@given(counts=st.lists(st.integers(1, 5), max_size=40), size=st.integers(1, 5))
def test_each_subject_falls_whole_to_one_rank_and_none_is_left_out(counts, size):
    units = [unit for unit, count in enumerate(counts) for _ in range(count)]
    records = [100 + k for k in range(len(units))]
    shares = [share(records, units, rank, size) for rank in range(size)]
    dealt = [record for own, _ in shares for record in own]
    assert sorted(dealt) == records
    unit_of = dict(zip(records, units, strict=True))
    owners = [{unit_of[record] for record in own} for own, _ in shares]
    assert sum(len(own) for own in owners) == len(counts)
    for own, numbers in shares:
        assert sorted(set(numbers)) == list(range(len(set(numbers))))
        assert len({(unit_of[r], n) for r, n in zip(own, numbers, strict=True)}) == len(set(numbers))
    loads = [len(own) for own, _ in shares]
    assert max(loads) - min(loads) <= max(counts, default=0)


def test_a_step_is_in_the_journal_before_its_batch_is_drawn(tmp_path):
    found = []

    def draw(step):
        found.append((tmp_path / "journal").read_text())
        return [7, 8], [0, 1]

    with Journal(tmp_path / "journal", 3) as journal:
        assert next_batch(ALONE, journal, draw) == (0, [7, 8], [0, 1])
    assert found == ['{"step": 0}\n']


@pytest.mark.parametrize("privacy", ["private", "not private"])
def test_the_command_in_two_or_four_ranks_gives_the_weights_of_one_process(
    ranks, write_cohort, tmp_path, site_ledger, privacy
):
    target = NOISE if privacy == "private" else ["--non-private"]
    arguments = ["train", write_cohort(), *target, *OPTIONS, "--out"]
    one, folders = RunFolder(tmp_path / "run-1"), []
    assert ranks(1, command=[*arguments, one.path]).codes == [0]
    for size in (2, 4):
        folders.append(RunFolder(tmp_path / f"run-{size}"))
        ended = ranks(size, command=[*arguments, folders[-1].path])
        assert ended.codes == [0] * size, ended.logs
        assert "What may leave" in ended.logs[0] or "Nothing of this run" in ended.logs[0]
        assert ended.logs[1:] == [""] * (size - 1)
    for folder in folders:
        assert_same_weights(one, folder)
        assert started(folder) == list(range(6))
        assert folder.state().status == "finished"
        assert folder.statement().mechanism == one.statement().mechanism
        assert folder.report.exists()
    assert events(site_ledger) == ["reserve", "settle"] * 3


@pytest.mark.parametrize(("kind", "size"), [("plain", 2), ("ddp", 2), ("fsdp", 2), ("fsdp", 4)])
def test_a_loop_of_one_s_own_over_ddp_or_fsdp_gives_the_weights_of_one_process(
    ranks, write_cohort, tmp_path, site_ledger, kind, size
):
    manifest, paths = write_cohort(), [tmp_path / "one", tmp_path / "several"]
    assert ranks(1, call=("own_loop", "plain", manifest, paths[0])).codes == [0]
    ended = ranks(size, call=("own_loop", kind, manifest, paths[1]))
    assert ended.codes == [0] * size, ended.logs
    one, several = map(RunFolder, paths)
    assert_same_weights(one, several)
    averages = [torch.load(f"{path}-average-0.pt") for path in paths]
    for name, value in averages[0].items():
        torch.testing.assert_close(averages[1][name], value, rtol=1e-5, atol=1e-6)
    brier = [[split.metrics["brier"].value for split in run.metrics().splits] for run in (one, several)]
    assert brier[1] == pytest.approx(brier[0], rel=1e-4)
    drawn = [torch.load(f"{paths[1]}-drawn-{rank}.pt") for rank in range(size)]
    for step, (index, records, units) in enumerate(torch.load(f"{paths[0]}-drawn-0.pt")):
        own = [drawn[rank][step] for rank in range(size)]
        assert [k for k, _, _ in own] == [index] * size
        assert sorted(r for _, dealt, _ in own for r in dealt) == sorted(records)
        assert sum(len(set(u)) for _, _, u in own) == len(set(units))
    assert events(site_ledger) == ["reserve", "settle"] * 2


@pytest.mark.parametrize(("kind", "size"), [("plain", 4), ("fsdp", 2)])
def test_the_noise_is_added_once_and_is_the_same_on_every_rank(ranks, write_cohort, tmp_path, kind, size):
    path = tmp_path / "run"
    ended = ranks(size, call=("noise_of_an_empty_step", kind, write_cohort(), path))
    assert ended.codes == [0] * size, ended.logs
    noise = [torch.load(f"{path}-noise-{rank}.pt") for rank in range(size)]
    assert all(torch.equal(noise[0], other) for other in noise[1:])
    # 102 800 values: a relative error of the deviation beyond 0.012 has probability < 1e-7
    assert noise[0].std().item() == pytest.approx(2.0 * 0.5, rel=0.012)
    assert len(np.unique(noise[0].numpy())) > 0.9 * len(noise[0])  # no shard has the noise of another


def kill(rank, folder, steps, number=signal.SIGKILL):
    """Kills a rank once the journal holds so many steps."""

    def meanwhile(pids):
        until = time.monotonic() + 60
        while not (folder.journal.exists() and len(folder.journal.read_text().splitlines()) >= steps):
            assert time.monotonic() < until
            time.sleep(0.01)
        os.kill(pids[rank], number)

    return meanwhile


@pytest.mark.parametrize("victim", [0, 1])
def test_the_death_of_a_rank_ends_the_others_with_a_clear_error_and_the_run_resumes_on_other_numbers_of_ranks(
    ranks, write_cohort, tmp_path, site_ledger, victim
):
    folder, spent = RunFolder(tmp_path / "run"), 0
    arguments = ["train", write_cohort(), *MANY, "--steps", "200", "--out", folder.path]
    for size in (2, 4):
        ended = ranks(size, command=arguments, meanwhile=kill(victim, folder, spent + 8))
        assert ended.codes[victim] == -signal.SIGKILL
        for rank in set(range(size)) - {victim}:
            assert ended.codes[rank] == 2, ended.logs
            message = ended.logs[rank][ended.logs[rank].index("error:") :].strip().splitlines()
            assert message == [
                f"error: rank {rank}: another process of the run has ended or does not answer.",
                "The steps so far are spent; continue with `reticent train --resume RUN`, on any number of processes.",
            ]
        assert ended.seconds < 60
        assert len(started(folder)) > spent
        spent = len(started(folder))
        arguments = ["train", "--resume", folder.path]
    ended = ranks(1, command=arguments)
    assert ended.codes == [0], ended.logs
    assert started(folder) == list(range(200))
    assert events(site_ledger) == ["reserve", "resume", "resume", "settle"]
    with Ledger.open(site_ledger) as site:
        site.verify(folder.state().anchors)
        assert site.spent("patient 1") == Composition((SubsampledGaussian(1.5, 0.4, 200),))


def test_a_run_begun_by_one_process_is_resumed_by_two_from_where_it_was(ranks, write_cohort, tmp_path, site_ledger):
    folder = RunFolder(tmp_path / "run")
    arguments = ["train", write_cohort(), *MANY, "--steps", "300", "--out", folder.path]
    ended = ranks(1, command=arguments, meanwhile=kill(0, folder, 15, signal.SIGINT))
    assert ended.codes == [130], ended.logs
    assert folder.checkpoint.exists()
    ended = ranks(2, command=["train", "--resume", folder.path])
    assert ended.codes == [0, 0], ended.logs
    assert started(folder) == list(range(300))
    assert events(site_ledger) == ["reserve", "resume", "settle"]


def test_a_loop_over_fsdp_resumes_on_more_ranks_and_ends_in_one_process(ranks, write_cohort, tmp_path, site_ledger):
    manifest, path = write_cohort(), tmp_path / "run"
    for size, kind, after in ((2, "fsdp", 2), (4, "fsdp", 4)):
        ended = ranks(size, call=("own_loop", kind, manifest, path, after))
        assert ended.codes[-1] == -signal.SIGKILL
        assert "another process of the run has ended" in ended.logs[0]
        checkpoint = torch.load(RunFolder(path).checkpoint)
        assert checkpoint["model"]["1.weight"].shape == (7, 256)
        assert checkpoint["optimiser"]["state"][0]["exp_avg"].shape == (7, 256)
    ended = ranks(1, call=("own_loop", "plain", manifest, path))
    assert ended.codes == [0], ended.logs
    assert started(RunFolder(path)) == list(range(6))
    assert events(site_ledger) == ["reserve", "resume", "resume", "settle"]


def test_sigterm_which_torchrun_sends_leaves_a_saved_run_that_resumes(ranks, write_cohort, tmp_path, site_ledger):
    folder = RunFolder(tmp_path / "run")
    ended = ranks(
        2,
        command=["train", write_cohort(), *MANY, "--out", folder.path],
        meanwhile=kill(0, folder, 10, signal.SIGTERM),
    )
    assert ended.codes == [2, 2], ended.logs
    assert "rank 0: stopped by SIGTERM" in ended.logs[0]
    assert "Traceback" not in "".join(ended.logs)
    assert folder.checkpoint.exists()  # 3000 steps save every 150th: this was saved on the way out
    assert events(site_ledger) == ["reserve"]


def test_a_rank_that_hangs_in_a_step_is_given_up_but_one_that_works_alone_is_waited_for(ranks, write_cohort, tmp_path):
    manifest = write_cohort()
    ended = ranks(2, call=("slow_loop", "rank 0", manifest, tmp_path / "waited"))
    assert ended.codes == [0, 0], ended.logs
    ended = ranks(2, call=("slow_loop", "rank 1", manifest, tmp_path / "given up"))
    assert 0 not in ended.codes
    assert "another process of the run has ended or does not answer" in ended.logs[0]


def test_what_is_wrong_at_the_start_is_said_once_and_ends_every_rank_with_code_two(
    ranks, write_cohort, tmp_path, site_ledger
):
    manifest, broken = write_cohort(), write_cohort("broken")
    (broken.parent / "images" / "1-0.png").write_bytes(b"not an image")
    (tmp_path / "taken").mkdir()
    charge = [*OPTIONS, "--noise-multiplier", "1", "--steps", "1", "--sampling-rate", "1", "--budget", "mu=1.2"]
    first = ranks(1, command=["train", manifest, *charge, "--out", tmp_path / "first"])
    assert first.codes == [0], first.logs
    before = len(events(site_ledger))
    cases = [
        ([manifest, *NOISE, *OPTIONS, "--out", tmp_path / "taken"], "taken: exists already"),
        ([manifest, *OPTIONS, "--epsilon", "8"], "--epsilon needs --delta"),
        ([manifest, *charge, "--out", tmp_path / "run"], "budget"),
        (["nowhere.csv", *NOISE, *OPTIONS], "nowhere.csv"),
        ([manifest, *NOISE, *OPTIONS, "--model", "torch.nn:Flatten", "--out", tmp_path / "run"], "torch.nn:Flatten"),
        ([broken, *NOISE, *OPTIONS, "--out", tmp_path / "run"], "1-0.png"),
        (["--resume", tmp_path / "nothing"], "not a run folder"),
    ]
    for arguments, message in cases:
        ended = ranks(2, command=["train", *arguments])
        assert ended.codes == [2, 2], (message, ended.logs)
        assert ended.logs[1] == ""
        assert ended.logs[0].count("error:") == 1
        assert message in ended.logs[0]
        assert "Traceback" not in ended.logs[0]
        assert not (tmp_path / "run").exists()
    assert events(site_ledger)[before:] in ([], ["reserve", "settle"])  # reserved and given back for the broken image


def test_ranks_with_different_cohorts_are_refused_before_anything_is_charged(
    ranks, write_cohort, tmp_path, site_ledger
):
    ended = ranks(2, call=("start_with_cohorts", write_cohort(), write_cohort("other", patients=20), tmp_path / "run"))
    assert ended.codes == [2, 2], ended.logs
    assert "rank 1: " in ended.logs[0]
    assert "other records than those of rank 0" in ended.logs[0]
    assert not (tmp_path / "run").exists()
    assert not site_ledger.exists()


def torchrun(size, *arguments):
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(size), "-m", "reticent"]
    return subprocess.Popen([*launch, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def worker(launcher, rank):
    """Process id of a rank under torchrun."""
    for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if f"RANK={rank}" in Path(f"/proc/{pid}/environ").read_text().split("\0"):
            return int(pid)
    raise AssertionError(f"no rank {rank}")


def test_under_torchrun_a_killed_rank_is_named_and_the_run_is_finished_by_the_next_launch(
    write_cohort, tmp_path, site_ledger, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = RunFolder(tmp_path / "run")
    launched = torchrun(2, "train", write_cohort(), *MANY, "--steps", "40", "--out", folder.path)
    kill(0, folder, 8, number=0)([launched.pid])  # signal 0 only waits
    os.kill(worker(launched.pid, 1), signal.SIGKILL)
    _, log = launched.communicate(timeout=60)
    assert launched.returncode != 0
    assert "error: rank 0: " in log
    assert events(site_ledger) == ["reserve"]
    spent = len(started(folder))
    launched = torchrun(2, "train", "--resume", folder.path)
    shown, log = launched.communicate(timeout=60)
    assert launched.returncode == 0, log
    assert shown.count("What may leave") == 1
    assert spent < len(started(folder)) == 40
    assert events(site_ledger) == ["reserve", "resume", "settle"]
