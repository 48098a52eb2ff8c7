"""Findings: append-only, numbered, typed, and when one contradicts its guarantee."""

import stat
import threading

import pytest
from pydantic import ValidationError

from reticent.errors import InputError
from reticent.records import Finding, Interval, Number, RunFolder, append_finding, make_study, read_findings, write_text

BOUND = Number(lower=1.0, upper=2.0, kind="upper bound")


def finding(**changes):
    fields = {
        "attack": "one-run", "asset": "membership", "adversary": "anybody", "metric": "epsilon", "value": 1.0,
        "kind": "empirical lower bound", "guarantee": BOUND, "reading": "", "seconds": 0.0,
    }  # fmt: skip
    return Finding(**fields | changes)


@pytest.fixture
def run(tmp_path):
    study = make_study({"cohort": {"uri": "x.csv"}, "privacy": {"noise_multiplier": 1.0}})
    return RunFolder.create(tmp_path / "run", study)


def test_findings_are_read_as_they_were_written_in_order_and_for_the_owner_alone(run):
    written = [finding(value=k / 10, settings={"k": k}, seed=k) for k in range(12)]
    paths = [append_finding(run, one) for one in written]
    assert [path.name for path in paths] == [f"{k:03d}-one-run.json" for k in range(1, 13)]
    assert read_findings(run) == written
    assert stat.S_IMODE(paths[0].stat().st_mode) == 0o600


def test_two_audits_at_once_take_different_numbers(run):
    threads = [threading.Thread(target=lambda: [append_finding(run, finding()) for _ in range(10)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_findings(run)) == 30


def test_a_number_is_not_given_twice_when_a_finding_was_taken_away(run):
    for _ in range(3):
        last = append_finding(run, finding())
    (run.findings / "001-one-run.json").unlink()
    assert append_finding(run, finding()).name == "004-one-run.json"
    assert last.exists()


@pytest.mark.parametrize(
    ("changes", "exceeds"),
    [
        ({"value": 2.1}, True),
        ({"value": 1.9}, False),
        ({"value": 2.1, "p_value": 0.5}, False),
        ({"value": 1.0, "p_value": 1e-4}, True),
        ({"value": 9.0, "guarantee": None}, False),
        ({"value": 9.0, "guarantee": Number(lower=None, upper=None, kind="unbounded"), "p_value": 1e-9}, False),
        ({"value": 2.4, "kind": "estimate"}, False),
        ({"value": 2.4, "kind": "estimate", "interval": Interval(lower=2.1, upper=3.0, confidence=0.95)}, True),
        ({"value": 2.4, "kind": "estimate", "interval": Interval(lower=1.5, upper=3.0, confidence=0.95)}, False),
    ],
)
def test_when_a_finding_contradicts_its_guarantee(changes, exceeds):
    assert finding(**changes).exceeds is exceeds


def test_other_fields_and_kinds_are_refused(run):
    for changes in ({"certified": 1.0}, {"kind": "upper bound"}, {"seconds": None}):
        with pytest.raises(ValidationError):
            finding(**changes)
    write_text(run.findings / "001-one-run.json", '{"schema": "reticent.finding/2"}')
    with pytest.raises(InputError, match=r"001-one-run\.json: .*another version or was altered"):
        read_findings(run)
