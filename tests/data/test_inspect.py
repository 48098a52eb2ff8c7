import numpy as np
from PIL import Image

from reticent.data import assign_splits, inspect_cohort, open_cohort, parse_markers


def test_the_kermany_summary_has_the_published_counts(shared):
    cohort = open_cohort(str(shared("kermany_cxr/manifest.csv")))
    summary = inspect_cohort(cohort, assign_splits(cohort, b"key"))
    assert (summary.records, summary.subjects) == (1301, 1006)
    assert {name: split.records for name, split in summary.splits.items()} == {"train": 903, "val": 135, "test": 263}
    assert sum(split.subjects for split in summary.splits.values()) == 1006
    assert summary.shapes == {(224, 224): 1301}
    assert not summary.overlapping
    assert not summary.unreadable


def test_faults_are_listed_and_not_raised(make_manifest, tmp_path, save_image):
    rows = ["0.png,a,0,train,f", "1.png,a,0,test,", "2.png,b,1,train,m", "3.png,c,1,test,m", "4.png,d,1,train,m"]
    path = make_manifest("file,patient,label,split,sex", *rows)
    save_image(tmp_path / "images" / "3.png", seed=2)  # the same image as 2.png
    (tmp_path / "images" / "4.png").write_bytes(b"no image")
    cohort = open_cohort(str(path), strict=False)
    steps = []
    summary = inspect_cohort(cohort, assign_splits(cohort, b"key"), lambda *step: steps.append(step))
    assert summary.overlapping == {"a": ("test", "train")}
    assert summary.duplicates == [("2.png", "3.png")]
    assert [key for key, _ in summary.unreadable] == ["4.png"]
    assert "4.png: not a readable image" in summary.unreadable[0][1]
    assert summary.missing == {"sex": 1}
    assert summary.records_per_subject == (1, 1.0, 2)
    assert summary.shapes == {(9, 7): 4}
    assert (summary.splits["train"].records, summary.splits["train"].subjects) == (3, 3)
    assert summary.splits["test"].labels == {"0": 1, "1": 1}
    assert steps[-1] == (5, 5)


def test_markers_are_summarised_in_their_unit_and_within_their_limits(make_manifest):
    rows = ["0.png,a,0,10,f", "1.png,b,1,,m", "2.png,c,0,inf,", "3.png,d,1,2.5,f", "4.png,e,1,0,f"]
    path = make_manifest("file,subject,label,crp,sex", *rows)
    declared = {"crp": "log,0..500", "sex": "f|m|d"}
    cohort = open_cohort(str(path), markers=declared)
    found = inspect_cohort(cohort, ["train"] * 5, markers=parse_markers(declared)).markers
    assert (found["crp"].missing, found["crp"].spread, found["crp"].counts) == (1, (0.0, 6.25, 500.0), {})
    assert (found["sex"].missing, found["sex"].spread) == (1, None)
    assert found["sex"].counts == {"f": 3, "m": 1, "d": 0}
    rows = [row.replace(",10,", ",,").replace(",inf,", ",,") for row in rows[:3]]
    gaps = open_cohort(str(make_manifest("file,subject,label,crp,sex", *rows)), markers={"crp": "5,1"})
    summary = inspect_cohort(gaps, ["train"] * 3, markers=parse_markers({"crp": "5,1"})).markers["crp"]
    assert (summary.missing, summary.spread) == (3, None)


def test_a_cohort_without_subjects_has_no_subject_counts(tmp_path, save_image):
    for i, name in enumerate(("train/a", "train/b", "val/a", "val/b")):
        save_image(tmp_path / name / "x.png", seed=i)
    cohort = open_cohort(str(tmp_path), strict=False)
    summary = inspect_cohort(cohort, assign_splits(cohort, b"key"))
    assert (summary.subjects, summary.records_per_subject, summary.splits["val"].records) == (None, None, 2)


def test_masks_count_the_records_that_show_each_label(make_manifest, tmp_path):
    path = make_manifest("file,patient,mask,split", "0.png,a,0.png,train", "1.png,b,1.png,train")
    (tmp_path / "masks").mkdir()
    for i in range(2):
        Image.fromarray(np.full((9, 7), 0, np.uint8) + i * np.eye(9, 7, dtype=np.uint8)).save(
            tmp_path / "masks" / f"{i}.png"
        )
    cohort = open_cohort(str(path))
    assert inspect_cohort(cohort, ["train"] * 2).splits["train"].labels == {"background": 2, "foreground": 1}


def test_multi_label_balance_counts_positives(make_manifest):
    path = make_manifest("file,patient,x,y", "0.png,a,0,1", "1.png,b,1,0", "2.png,c,1,1")
    cohort = open_cohort(str(path), labels=["x", "y"])
    assert inspect_cohort(cohort, ["train"] * 3).splits["train"].labels == {"x": 2, "y": 2}
