"""`reticent reconcile` as its user sees it: a sweep over noise, a page, wrong input."""

import json
import stat
from pathlib import Path

import pytest

from reticent.records import Reconciliation, read_record

STUDY = """
[cohort]
uri = "{uri}"
[privacy]
steps = 4
sampling_rate = 0.3
[model]
arguments = {{ width = 8 }}
[sweep.variants.private]
grid = {{ "privacy.noise_multiplier" = [0.02, 1.5] }}
[sweep.variants.none]
privacy = {{ non_private = true }}
{more}
"""
OTHER_RATE = "[sweep.variants.other]\ntraining = { learning_rate = 0.5 }\nprivacy = { noise_multiplier = 2 }"


@pytest.fixture
def swept(reticent, write_cohort):
    """A finished sweep over noise, by the command."""

    def sweep(more="", *options):
        Path("sweep.toml").write_text(STUDY.format(uri=write_cohort(), more=more))
        ended = reticent("sweep", "sweep.toml", "--out", "out", *options)
        assert ended.code == 0, ended.err
        return Path("out")

    return sweep


def test_a_sweep_over_noise_becomes_a_page_of_risk_and_performance(reticent, swept):
    out = swept("", "--repeats", "2")
    ended = reticent("reconcile", out, "--patients", "8", "--batch", "4", "--more", "0.1", "--seed", "1")
    assert ended.code == 0, ended.err
    record = read_record(Reconciliation, out / "reconciliation.json")
    assert [row.noise_multiplier for row in record.rows] == [None, 0.02, 0.1, 1.5]
    bare, least, added, most = record.rows
    assert bare.recovered > 0.3
    assert bare.worst_case.upper is None or bare.worst_case.upper == 1
    assert most.recovered == 0
    assert least.epsilon.upper > 1e3
    assert added.performance is None
    assert [row.performance.runs for row in (bare, least, most)] == [2, 2, 2]
    assert bare.performance.interval.lower <= bare.performance.value <= bare.performance.interval.upper
    assert record.subjects == 24
    page = (out / "reconciliation.html").read_text()
    assert "no image of 8 patients was recovered" in ended.out
    assert "noise multiplier 0.02" in page
    for name in ("reconciliation.html", "reconciliation.json", "reconciliation.png"):
        assert stat.S_IMODE((out / name).stat().st_mode) == 0o600
    assert json.loads((out / "reconciliation.json").read_text())["seed"] == 1


def test_a_reconciliation_repeats_from_its_recorded_seed_and_says_so_when_images_are_gone(reticent, swept, tmp_path):
    out, records = swept(), []
    command = ["reconcile", out, "--patients", "8", "--batch", "4"]
    assert reticent(*command).code == 0
    page = out / "reconciliation.json"
    records.append(json.loads(page.read_text()))
    assert reticent(*command, "--seed", records[0]["seed"]).code == 0
    records.append(json.loads(page.read_text()))
    for record in records:
        del record["created"]
    assert records[0] == records[1]
    for image in (tmp_path / "clinic" / "images").iterdir():
        image.unlink()
    page.unlink()
    ended = reticent(*command)
    assert ended.code == 2
    assert "the cohort that the run was trained on cannot be opened" in ended.err
    assert not page.exists()


@pytest.mark.parametrize(
    ("more", "options", "message"),
    [
        (OTHER_RATE, [], "differ in more"),
        ("", ["--metric", "dice"], "no 'dice'"),
        ("", ["--split", "public"], "split 'public'"),
        ("", ["--public", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_wrong_input_is_told_in_a_line_or_two_and_leaves_no_page(more, options, message, reticent, swept):
    out = swept(more)
    ended = reticent("reconcile", out, "--patients", "4", "--batch", "4", *options)
    assert ended.code == 2
    assert message in ended.err
    assert len(ended.err.strip().splitlines()) <= 2
    assert not (out / "reconciliation.html").exists()


def test_a_folder_without_a_sweep_is_refused(reticent, tmp_path):
    ended = reticent("reconcile", tmp_path)
    assert ended.code == 2
    assert "no runs of a sweep" in ended.err
