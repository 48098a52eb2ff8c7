"""Budgets beside each other: theory at published settings, the attack's collapse, and the page of a sweep."""

import json
import stat

import pytest
import torch

from reticent.accounting import SubsampledGaussian
from reticent.attacks.reconstruction.on_runs.material import Material
from reticent.attacks.reconstruction.reconciliation import Protocol, reconcile
from reticent.errors import InputError
from reticent.records import Interval, Performance, Reconciliation, budget_name, read_record
from reticent.report import write_reconciliation
from reticent.training import Classification

TASK = Classification("binary", ("clear", "nodule"))


@pytest.mark.parametrize(
    ("subjects", "batch", "steps", "sigma", "gamma"),
    [
        (8112, 2048, 300, 20.118, 2.828e-4), (8112, 2048, 300, 3.1835, 0.01216), (8112, 2048, 300, 1.6014, 0.2225),
        (1_000_000, 3328, 15_000, 2.0080, 2.881e-6), (1_000_000, 3328, 15_000, 0.6581, 3.008e-4),
        (1_000_000, 3328, 15_000, 0.5094, 0.01462), (1_000_000, 3328, 15_000, 0.3391, 0.9607),
    ],
)  # fmt: skip
def test_the_worst_case_at_published_settings(subjects, batch, steps, sigma, gamma):
    """Dermatoscopy- and RadImageNet-like trainings: chance to name the right one of all training records."""
    profile = SubsampledGaussian(sigma, batch / subjects, steps).profile(accuracy=1e-4)
    assert profile.reconstruction(1 / subjects).upper == pytest.approx(gamma, rel=5e-3)


def test_a_large_epsilon_is_that_of_the_exact_accountant():
    """Where Rényi accounting says 1000, convolution says 901."""
    found = SubsampledGaussian(0.2335, 2048 / 8112, 300).profile().epsilon(8e-7)
    assert found.upper == pytest.approx(901, rel=5e-3)


@pytest.fixture(scope="module")
def material(public, patients):
    images, labels = patients
    return Material(
        images[:64], {"label": labels[:64]}, public[:500], {}, (0.0, 1.0), "made-up chests", None, seed=5
    )  # fmt: skip


def performance(value):
    interval = Interval(lower=value - 0.01, upper=value + 0.01, confidence=0.95)
    return Performance(value=value, interval=interval, runs=3)


@pytest.fixture(scope="module")
def record(material):
    protocol = Protocol(subjects=1000, sampling_rate=0.1, steps=100, max_norm=1.0, delta=1e-5)
    known = {None: performance(0.938), 0.1: performance(0.916), 1.0: performance(0.706)}
    return reconcile(
        protocol, material, TASK, known, cohort="chests", metric="auroc", split="test", more=(1e-4, 1e-3, 1e-2)
    )  # fmt: skip


def test_the_attack_collapses_decades_of_noise_before_the_model_does(record):
    recovered = {row.noise_multiplier: row.recovered for row in record.rows}
    assert recovered[None] == pytest.approx(recovered[1e-4], abs=0.1)
    assert 0.45 < recovered[None] < 0.95
    for sigma in (1e-2, 0.1, 1.0):
        assert recovered[sigma] == 0
    assert record.control == 0
    assert record.control_similarity == pytest.approx(0.88, abs=0.04)
    similarity = [row.similarity for row in record.rows]
    assert similarity[0] > 0.93
    assert similarity[-1] < 0.15
    assert similarity[3] < record.control_similarity  # at 0.01: less than unrelated images


def test_attackers_who_know_less_are_never_above_those_who_know_more(record):
    for row in record.rows:
        worst = 1.0 if row.worst_case.upper is None else row.worst_case.upper
        assert row.relaxed <= worst * (1 + 1e-6)
        assert row.recovered <= 1
    worst = [row.worst_case.upper for row in record.rows if row.noise_multiplier]
    assert worst == sorted(worst, reverse=True)
    assert worst[0] == pytest.approx(1 - 0.9**100 * (1 - 1e-3), rel=1e-3)  # but for those who never took part
    for name in ("relaxed", "from_scratch", "shrinkage"):
        values = [getattr(row, name) for row in record.rows]
        assert values == sorted(values, reverse=True)


def test_more_noise_leaves_the_guess(material):
    protocol = Protocol(subjects=1000, sampling_rate=0.1, steps=100, max_norm=1.0, delta=1e-5)
    found = reconcile(
        protocol, material, TASK, {100.0: performance(0.5)}, cohort="chests", metric="auroc", split="test"
    )  # fmt: skip
    (row,) = found.rows
    assert row.worst_case.upper == pytest.approx(1e-3, rel=0.05)
    assert row.relaxed == pytest.approx(1e-3, rel=0.05)


def test_the_share_recovered_grows_with_the_threshold(material):
    shares = []
    for threshold in (1e-4, 1e-2, 1e-1):
        protocol = Protocol(100, 0.1, 100, 1.0, 1e-5, threshold=threshold)
        found = reconcile(
            protocol, material, TASK, {1e-3: performance(0.9)}, cohort="chests", metric="auroc", split="test"
        )  # fmt: skip
        shares.append(found.rows[0].recovered)
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_the_reading_says_what_stopped_the_attack_what_it_cost_and_what_it_does_not_prove(record):
    control, stopped, guaranteed = record.readings()
    assert "Of 64 patients" in control
    assert "no image of 64 patients was recovered (at most 5.6" in stopped
    assert "noise multiplier" in stopped
    assert "without" not in stopped
    assert "the right one of 1,000" in guaranteed
    assert "one attack" in guaranteed
    assert "probability of at most 1, that is nothing." in guaranteed
    assert guaranteed.endswith("it is at most 0.039, while auroc dropped by 0.232 from 0.938 at no privacy.")
    last = record.rows[-1]
    loose = last.model_copy(update={"worst_case": last.worst_case.model_copy(update={"upper": 0.06})})
    assert record.model_copy(update={"rows": (*record.rows[:-1], loose)}).readings()[2].endswith("that is nothing.")


def test_the_reading_is_about_a_budget_with_a_performance_from_which_on_nothing_is_recovered(record):
    assert "At epsilon = " in record.readings()[1]
    assert "noise multiplier 0.1)" in record.readings()[1]  # 0.01 stops the attack as well, but no model was trained
    assert "auroc dropped by 0.022 from 0.938 at no privacy" in record.readings()[1]
    late = [row.model_copy(update={"recovered": 0.01 * (row.noise_multiplier == 0.1)}) for row in record.rows]
    after = record.model_copy(update={"rows": tuple(late)}).readings()[1]
    assert "dropped by 0.232" in after
    never = record.model_copy(update={"rows": (*late[:-1], late[-1].model_copy(update={"recovered": 0.01}))})
    assert "none of the budgets is safe" in never.readings()[1]


def test_the_noise_stands_beside_every_large_epsilon(record):
    for row in record.rows:
        name = budget_name(row)
        if row.noise_multiplier is None:
            assert name == "no privacy"
        else:
            assert ("noise multiplier" in name) == (row.epsilon.upper > 100)
            assert "delta = 1e-05" in name


def test_the_page_has_every_row_and_loads_nothing(record, tmp_path):
    write_reconciliation(record, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count('<tr><th scope="row">') == len(record.rows) + 1
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "<svg" in page
    assert stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == 0o600


def test_a_record_reads_back(record, tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(record.model_dump(mode="json", by_alias=True), allow_nan=False))
    assert read_record(Reconciliation, tmp_path / "r.json") == record


def test_budgets_without_any_noise_are_refused(material):
    protocol = Protocol(subjects=100, sampling_rate=0.1, steps=10, max_norm=1.0, delta=1e-5)
    with pytest.raises(InputError, match="no budget has noise"):
        reconcile(
            protocol, material, TASK, {None: performance(0.9)}, cohort="chests", metric="auroc", split="test"
        )  # fmt: skip


def test_images_that_were_never_read_are_not_counted(material):
    """Dark images may activate no neuron: then a grey image stands for what was read, and nothing is recovered."""
    dark = Material(
        torch.zeros(4, 1, 28, 28), {"label": torch.zeros(4, dtype=torch.long)}, material.references, {}, (0.0, 1.0),
        "made-up chests", None, seed=5,
    )  # fmt: skip
    protocol = Protocol(subjects=100, sampling_rate=0.1, steps=10, max_norm=1.0, delta=1e-5)
    found = reconcile(protocol, dark, TASK, {None: performance(0.9), 1.0: performance(0.8)}, cohort="dark",
                      metric="auroc", split="test")  # fmt: skip
    assert found.rows[0].recovered == 0
