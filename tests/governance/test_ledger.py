"""The site ledger: who is charged, what is admitted, and what survives tampering, erasure and crashes."""

import multiprocessing
import os
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest

from reticent.accounting import Composition, Gaussian, SubsampledGaussian, Unbounded
from reticent.errors import InputError
from reticent.governance import Budget, Ledger, ledger_path

PATIENTS = [f"patient {k}" for k in range(20)]
TRAINING = SubsampledGaussian(noise_multiplier=2.0, sampling_rate=0.1, steps=100)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "site" / "ledger.sqlite"


@pytest.fixture
def ledger(path):
    with Ledger.open(path) as opened:
        yield opened


def reserve(ledger, run, subjects=PATIENTS, mechanism=TRAINING, budget=None, cohort="chest"):
    return ledger.reserve(
        run=run,
        cohort=cohort,
        fingerprint="f" * 8,
        subjects=subjects,
        unit=mechanism.unit,
        mechanism=mechanism,
        budget=budget,
    )


def fill(ledger):
    """A ledger with every kind of event."""
    reserve(ledger, "first", budget=Budget(mu=5.0))
    ledger.settle("first", SubsampledGaussian(2.0, 0.1, 60))
    ledger.record("release", "first", {"sha256": "abc"})
    reserve(ledger, "second", PATIENTS[:5], Gaussian(4.0))
    ledger.record("audit", "first", {"verdict": "fine"})
    ledger.erase(PATIENTS[0])


def test_location_is_the_option_then_the_environment_then_the_data_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("RETICENT_LEDGER", str(tmp_path / "b.sqlite"))
    assert ledger_path(Path("a.sqlite")) == Path("a.sqlite")
    assert ledger_path(None) == tmp_path / "b.sqlite"
    monkeypatch.delenv("RETICENT_LEDGER")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert ledger_path(None) == tmp_path / "reticent" / "ledger.sqlite"


def test_key_and_ledger_are_readable_by_their_owner_alone(ledger, path):
    for file in (path, path.with_name("ledger.sqlite.key")):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_no_patient_identifier_is_stored(ledger, path):
    fill(ledger)
    assert b"patient" not in path.read_bytes()


def test_copied_converted_and_subset_cohorts_are_charged_to_the_same_patients(ledger, path):
    reserve(ledger, "original")
    with Ledger.open(path) as later:
        reserve(later, "copy", list(reversed(PATIENTS)), cohort="copied elsewhere")
        reserve(later, "subset", PATIENTS[3:7], cohort="subset")
        assert later.spent(PATIENTS[4]) == Composition((TRAINING, TRAINING, TRAINING))
        assert later.spent(PATIENTS[9]) == Composition((TRAINING, TRAINING))
        assert later.spent("somebody else") is None


def test_a_budget_stays_in_force_for_later_jobs_on_its_subjects(ledger):
    reserve(ledger, "first", PATIENTS[:10], Gaussian(1.0), budget=Budget(mu=1.2))
    for budget in (None, Budget(mu=9.0)):
        with pytest.raises(InputError, match=r"budget mu=1\.2: 10 of its 10 subjects"):
            reserve(ledger, "second", mechanism=Gaussian(1.0), budget=budget)
    with pytest.raises(InputError, match=r"budget mu=1\.2"):
        reserve(ledger, "open", PATIENTS[:1], Unbounded("no noise"))
    reserve(ledger, "others", PATIENTS[10:], Gaussian(1.0))
    reserve(ledger, "small", mechanism=Gaussian(2.0))


def test_a_ledger_that_is_gone_while_its_key_is_there_is_not_replaced(ledger, path):
    reserve(ledger, "run")
    ledger.close()
    path.unlink()
    with pytest.raises(InputError, match="the ledger is gone, but its key is there"):
        Ledger.open(path)
    assert not path.exists()


def test_repeated_subjects_count_once(ledger):
    reserve(ledger, "run", ["a", "a", "b"])
    assert ledger.entries()[0].scope == "2 subjects"


def test_a_settled_job_costs_what_it_spent_a_crashed_one_what_it_reserved(ledger):
    reserve(ledger, "crashed")
    reserve(ledger, "stopped early")
    ledger.settle("stopped early", SubsampledGaussian(2.0, 0.1, 10))
    reserve(ledger, "failed before the first step")
    ledger.settle("failed before the first step", None)
    assert ledger.spent(PATIENTS[0]) == Composition((TRAINING, SubsampledGaussian(2.0, 0.1, 10)))
    (group,) = ledger.spending()
    assert (group.subjects, group.runs) == (20, ("crashed", "stopped early", "failed before the first step"))


def test_a_job_is_settled_once_and_never_for_more_than_it_reserved(ledger):
    reserve(ledger, "run")
    with pytest.raises(ValueError, match="something else than it had reserved"):
        ledger.settle("run", SubsampledGaussian(2.0, 0.1, 101))
    with pytest.raises(ValueError, match="something else"):  # cheaper at one Rényi order, dearer in epsilon
        ledger.settle("run", SubsampledGaussian(0.3, 0.001, 10))
    ledger.settle("run", TRAINING)
    with pytest.raises(InputError, match="already settled"):
        ledger.settle("run", TRAINING)
    with pytest.raises(InputError, match="not reserved"):
        ledger.settle("unknown", TRAINING)
    with pytest.raises(InputError, match="already reserved"):
        reserve(ledger, "run")


@pytest.mark.parametrize("budget", [Budget(mu=1.5), Budget(epsilon=7.0, delta=1e-5)])
def test_a_budget_refuses_the_job_that_exceeds_it_and_says_for_how_many(ledger, budget):
    reserve(ledger, "one", PATIENTS[:8], Gaussian(1.0), budget)
    with pytest.raises(
        InputError, match=r"budget (mu|epsilon).*8 of its 20 subjects.*spent so far.*asks for"
    ) as refusal:
        reserve(ledger, "two", PATIENTS, Gaussian(0.8), budget)
    assert str(refusal.value).count("\n") <= 1
    assert len(ledger.entries()) == 1
    reserve(ledger, "two", PATIENTS[8:], Gaussian(0.8), budget)


def test_a_crashed_reservation_still_counts_against_the_budget(ledger, path):
    reserve(ledger, "crashed", mechanism=Gaussian(1.0), budget=Budget(mu=1.0))
    ledger.close()
    with Ledger.open(path) as later, pytest.raises(InputError, match="budget mu=1"):
        reserve(later, "next", mechanism=Gaussian(100.0), budget=Budget(mu=1.0))


def test_no_budget_admits_a_job_without_privacy_nor_anything_after_one(ledger):
    with pytest.raises(InputError, match="budget"):
        reserve(ledger, "twin", mechanism=Unbounded("twin"), budget=Budget(mu=1000.0))
    reserve(ledger, "twin", mechanism=Unbounded("twin"))
    with pytest.raises(InputError, match="budget"):
        reserve(ledger, "private", budget=Budget(epsilon=1e6, delta=1e-5))


def test_units_are_not_added_up(ledger):
    reserve(ledger, "by record", ["scan 1"], Gaussian(2.0, unit="record"))
    with pytest.raises(InputError, match="unit record"):
        reserve(ledger, "by subject", ["scan 1"], budget=Budget(mu=9.0))


def test_an_empty_cohort_is_refused(ledger):
    with pytest.raises(InputError, match="no subjects"):
        reserve(ledger, "run", [])


def test_erasure_keeps_the_chain_valid_and_forgets_the_patient(ledger, path):
    reserve(ledger, "first")
    reserve(ledger, "second")
    pseudonym = ledger.pseudonym(PATIENTS[0])
    assert ledger.erase(PATIENTS[0]) == 2
    assert ledger.erase("never seen") == 0
    ledger.verify()
    assert ledger.spent(PATIENTS[0]) is None
    assert ledger.spent(PATIENTS[1]) == Composition((TRAINING, TRAINING))
    assert ledger.entries()[2].event == "forget"
    assert pseudonym.encode() not in path.read_bytes()


def cells(path):
    """Every (table, row, column) of a ledger."""
    found = []
    with sqlite3.connect(path) as connection:
        for table, key in (("entries", "number"), ("subjects", "entry * 1000 + position")):
            rows = connection.execute(f"SELECT {key}, * FROM {table}")
            names = [column[0] for column in rows.description[1:]]
            found += [
                (table, key, row[0], name, value) for row in rows for name, value in zip(names, row[1:], strict=True)
            ]
    return found


def test_tampering_with_any_field_of_any_row_is_detected(ledger, path, tmp_path):
    fill(ledger)
    original = cells(path)
    with_one_value = {name: value for _, _, _, name, value in original if value is not None}
    for number, (table, key, row, name, value) in enumerate(original):
        if table == "subjects" and row % 1000 not in (0, 1, 4) and number % 7:
            continue  # rows are alike: the first, second and last of each entry, and every seventh cell of the others
        copy = tmp_path / "tampered.sqlite"
        shutil.copy(path, copy)
        shutil.copy(f"{path}.key", f"{copy}.key")
        replacement = changed(value) if value is not None else with_one_value[name]
        with sqlite3.connect(copy) as connection:
            connection.execute(f"UPDATE {table} SET {name} = ? WHERE {key} = ?", (replacement, row))
        connection.close()
        with Ledger.open(copy) as tampered, pytest.raises(InputError, match="tampered"):
            tampered.verify()


def changed(value):
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:]
    if isinstance(value, int):
        return value + 1000
    digits = str.maketrans("0123456789", "1234567890")
    return value.translate(digits) if value.translate(digits) != value else value + "x"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM entries WHERE number = 2",
        "DELETE FROM subjects WHERE entry = 1 AND position = 3",
        "UPDATE subjects SET pseudonym = NULL, salt = NULL WHERE entry = 1 AND position = 3",
        "INSERT INTO subjects SELECT entry, 99, pseudonym, salt, commitment FROM subjects LIMIT 1",
        "INSERT INTO subjects SELECT 99, 0, pseudonym, salt, commitment FROM subjects LIMIT 1",
        "UPDATE entries SET details = '[' WHERE number = 3",
        """UPDATE entries SET details = '{"erased": [1]}' WHERE event = 'forget'""",
    ],
)
def test_added_removed_and_silently_erased_rows_are_detected(ledger, path, statement):
    fill(ledger)
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    with pytest.raises(InputError, match="tampered"):
        ledger.verify()
    with pytest.raises(InputError, match="tampered"):
        reserve(ledger, "next")


def test_a_rollback_is_noticed_through_the_runs_anchored_in_it(ledger, path, tmp_path):
    first = reserve(ledger, "first")
    shutil.copy(path, tmp_path / "backup.sqlite")
    second = reserve(ledger, "second")
    assert ledger.head == second
    ledger.verify([first, second])
    shutil.copy(tmp_path / "backup.sqlite", path)
    with Ledger.open(path) as rolled_back:
        rolled_back.verify([first])
        with pytest.raises(InputError, match="rolled back"):
            rolled_back.verify([first, second])


def test_a_ledger_opens_with_its_own_key_only(ledger, path):
    fill(ledger)
    ledger.close()
    key = Path(f"{path}.key")
    genuine = key.read_bytes()
    for wrong, message in ((os.urandom(32), "another ledger"), (b"short", "not a site key")):
        key.write_bytes(wrong)
        with pytest.raises(InputError, match=message):
            Ledger.open(path)
    key.unlink()
    with pytest.raises(InputError, match="missing"):
        Ledger.open(path)
    key.write_bytes(genuine)
    Ledger.open(path).close()


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    for name in ("text", "database"):
        (tmp_path / f"{name}.key").write_bytes(bytes(32))
    (tmp_path / "text").write_text("not a database " * 100)
    with sqlite3.connect(tmp_path / "database") as other:
        other.execute("CREATE TABLE notes (text)")
    for name in ("text", "database"):
        with pytest.raises(InputError, match="ledger"):
            Ledger.open(tmp_path / name)


def test_keys_for_other_purposes_are_stable_and_distinct(ledger, path):
    with Ledger.open(path) as again:
        assert again.derive_key("split") == ledger.derive_key("split")
    assert ledger.derive_key("split") != ledger.derive_key("other")
    assert ledger.derive_key("split").hex() != ledger.pseudonym("split")


def compete(path, run, barrier, results):
    barrier.wait()
    try:
        with Ledger.open(path) as ledger:
            reserve(ledger, run, mechanism=Gaussian(1.0), budget=Budget(mu=1.2))
        results.put("admitted")
    except InputError as refusal:
        results.put(str(refusal))


def test_of_two_processes_with_room_for_one_exactly_one_is_admitted(path):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    workers = [context.Process(target=compete, args=(path, run, barrier, results)) for run in ("one", "two")]
    for worker in workers:
        worker.start()
    outcomes = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert sorted(outcome == "admitted" for outcome in outcomes) == [False, True]
    assert any("budget mu=1.2" in outcome for outcome in outcomes)
    with Ledger.open(path) as ledger:
        assert len(ledger.entries()) == 1


def test_details_are_kept_as_json_and_stay_verifiable(ledger):
    ledger.record("audit", "run", {"by_size": {10: (1, 2), 2: None}})
    ledger.verify()
    assert ledger.entries()[0].details == {"by_size": {"10": [1, 2], "2": None}}
