"""A detector on real photographs of blood cells: without privacy it is good, with it worse, and counting hides both."""

from pathlib import Path

import pytest

from reticent.data import open_cohort
from reticent.records import make_study
from reticent.training import make_plan, train

BCCD = Path(__file__).resolve().parents[3] / "shared" / "data" / "bccd_detection"


def measured(tmp_path, **options):
    """Test metrics of a run, and AP at IoU 0.5 of each class."""
    if not BCCD.exists():
        pytest.skip("the data bundle is absent (bccd_detection)")
    study = make_study({"cohort": {"uri": str(BCCD), "unit": "record"}, **options})
    cohort = open_cohort(str(BCCD), unit="record")
    out = tmp_path / f"run {len(list(tmp_path.iterdir()))}"
    plan = make_plan(study, len(cohort.classes))
    folder = train(study, cohort, out, ledger=tmp_path / "l.sqlite", plan=plan, progress=lambda *_: None)
    (test,) = (split for split in folder.metrics().splits if split.split == "test")
    by_class = {group.name: group.metrics["ap50"].value for group in test.groups}
    return {name: value.value for name, value in test.metrics.items()}, by_class


PLAIN = {"non_private": True, "sampling_rate": 0.05, "seed": 1}


@pytest.mark.slow
def test_twenty_epochs_find_most_cells_and_privacy_costs_some_of_them(tmp_path):
    plain, by_class = measured(tmp_path, privacy={**PLAIN, "steps": 400}, training={"learning_rate": 0.002})
    assert plain["ap50"] > 0.75
    assert by_class["WBC"] > 0.85
    private, _ = measured(tmp_path, privacy={"epsilon": 8.0, "delta": 1e-3, "seed": 1})
    assert 0.2 < private["ap50"] < plain["ap50"] - 0.2
    assert private["counting_area"] > plain["counting_area"] - 0.15


@pytest.mark.slow
def test_after_few_epochs_counts_are_good_and_boxes_are_not(tmp_path):
    """The red cells, nine of ten objects, carry the counting area alone."""
    early, by_class = measured(tmp_path, privacy={**PLAIN, "steps": 50}, training={"learning_rate": 0.002})
    assert early["counting_area"] > 0.8
    assert early["map"] < 0.4
    assert min(by_class.values()) < 0.3
