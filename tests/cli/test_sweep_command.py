"""`reticent sweep` as its user sees it: runs in the ledger, results, going on, wrong input."""

from pathlib import Path

import pandas as pd
import pytest

from reticent.governance import Ledger
from reticent.records import RunFolder
from reticent.training import PrivateRun

STUDY = """
[cohort]
uri = "{uri}"
[privacy]
noise_multiplier = 1.5
steps = 4
sampling_rate = 0.3
[model]
arguments = {{ width = 8 }}
[sweep]
grid = {{ "training.learning_rate" = [0.01, 0.02] }}
"""


@pytest.fixture
def write_sweep(write_cohort):
    def write(extra=""):
        Path("sweep.toml").write_text(STUDY.format(uri=write_cohort()) + extra)
        return "sweep.toml"

    return write


def test_every_run_is_charged_and_the_results_are_its_metrics(reticent, write_sweep, site_ledger):
    ended = reticent("sweep", write_sweep(), "--repeats", "2", "--out", "out", "--split", "test")
    assert ended.code == 0, ended.err
    assert "2 configurations x 2 runs" in ended.out
    found = pd.read_parquet("out/results.parquet")
    assert len(found) == 4 * 2
    assert set(found["training.learning_rate"]) == {0.01, 0.02}
    with Ledger.open(site_ledger) as ledger:
        runs = {entry.run for entry in ledger.entries() if entry.event == "settle"}
    assert set(found["run"]) == runs
    for path in sorted(Path("out/runs").iterdir()):
        folder = RunFolder(path)
        (row,) = found[(found.run == folder.statement().run) & (found.split == "test")].to_dict("records")
        (split,) = (s for s in folder.metrics().splits if s.split == "test")
        assert row["auroc"] == split.metrics["auroc"].value
        assert row["epsilon"] == folder.statement().epsilon.upper
    assert Path("out").stat().st_mode & 0o77 == 0  # metrics of private patients
    assert "| learning_rate = 0.01 | 2 |" in Path("out/table.md").read_text()
    assert r"\begin{tabular}" in Path("out/table.tex").read_text()


def test_an_interrupted_sweep_goes_on_and_more_repeats_add_to_it(reticent, write_sweep, site_ledger, monkeypatch):
    study, draws = write_sweep(), []
    steps = PrivateRun.steps

    def interrupted(run):
        for step in steps(run):
            draws.append(step.index)
            if len(draws) == 6:  # in the second run
                raise KeyboardInterrupt
            yield step

    with monkeypatch.context() as patch:
        patch.setattr(PrivateRun, "steps", interrupted)
        ended = reticent("sweep", study, "--out", "out")
    assert ended.code == 130
    assert "the same command goes on" in ended.out
    first = RunFolder(Path("out/runs/000-0")).statement().run
    assert reticent("sweep", study, "--out", "out").code == 0
    assert reticent("sweep", study, "--out", "out", "--repeats", "2").code == 0
    found = pd.read_parquet("out/results.parquet")
    assert first in set(found["run"])
    assert found["run"].nunique() == 4
    with Ledger.open(site_ledger) as ledger:
        reserved = [entry.run for entry in ledger.entries() if entry.event == "reserve"]
    assert sorted(set(found["run"])) == sorted(set(reserved))


def test_a_schedule_that_is_chosen_for_a_budget_is_a_variant_like_any_other(reticent, write_cohort):
    privacy = (
        "mu = 3.0\n[sweep.variants.chosen]\nprivacy = { epochs = 2 }\n[sweep.variants.given]\nprivacy = { steps = 2 }\n"
    )
    text = f'[cohort]\nuri = "{write_cohort()}"\n[model]\narguments = {{ width = 8 }}\n[privacy]\n{privacy}'
    Path("sweep.toml").write_text(text)
    ended = reticent("sweep", "sweep.toml", "--out", "out")
    assert ended.code == 0, ended.err
    chosen, given = (RunFolder(path).study().privacy for path in sorted(Path("out/runs").iterdir()))
    assert chosen.steps == round(2 / chosen.sampling_rate)
    assert given.steps == 2


def test_what_several_runs_warn_of_is_said_once(reticent, write_sweep):
    study = Path(write_sweep())
    study.write_text(study.read_text().replace("steps = 4", "steps = 4\ndelta = 0.2"))
    ended = reticent("sweep", study, "--out", "out")
    assert ended.code == 0, ended.err
    assert ended.err.count("a delta that is too large") == 1


def test_another_sweep_does_not_go_into_the_same_folder(reticent, write_sweep):
    study = write_sweep()
    assert reticent("sweep", study, "--out", "out", "--over", "privacy.steps=2").code == 0
    ended = reticent("sweep", study, "--out", "out", "--over", "privacy.steps=3")
    assert ended.code == 2
    assert "holds a sweep of other studies" in ended.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--over", "privacy.steps"], "write it as section.option=VALUE,VALUE"),
        (["--over", "model.name=nothing"], "model 'nothing'"),
        (["--over", "cohort.uri='missing.csv'"], "missing.csv"),
        (["--over", "training.class_weights=[1.0, 2.0, 3.0]"], "--class-weights has 3 numbers"),
        (["--metric", "dice"], "no 'dice' on the split 'val'"),
    ],
)
def test_wrong_input_is_one_line_and_charges_nothing_before_a_run(reticent, write_sweep, site_ledger, options, message):
    ended = reticent("sweep", write_sweep(), "--out", "out", *options)
    assert ended.code == 2
    assert message in ended.err
    assert "Traceback" not in ended.err
    if "--metric" not in options:
        assert not Path("out").exists()
        assert not site_ledger.exists()
