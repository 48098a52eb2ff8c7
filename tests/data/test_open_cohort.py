import shutil
from collections import Counter

import pytest

from reticent.data import open_cohort
from reticent.errors import InputError


def test_an_unknown_address_says_what_is_known(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        open_cohort(str(tmp_path / "gone"))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="not a known kind of cohort"):
        open_cohort(str(tmp_path / "notes.txt"))


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone.csv: not a readable manifest"):
        open_cohort(str(tmp_path / "gone.csv"))


def test_columns_of_what_is_no_manifest_are_refused():
    with pytest.raises(InputError, match=r"--label goes with surfaces, DICOM .*, a manifest .*; leave it out"):
        open_cohort("phantom:chest", labels=["nodule"])


def test_record_subjects_are_digests_that_survive_copying_and_subsetting(tmp_path, save_image):
    for i, name in enumerate(("a/0.png", "a/1.png", "b/2.png", "b/3.png")):
        save_image(tmp_path / "all" / name, seed=i)
    whole = open_cohort(str(tmp_path / "all"), unit="record")
    assert all(entry.subject == f"record:{whole.digest(i).hex()}" for i, entry in enumerate(whole.entries))
    shutil.copytree(tmp_path / "all", tmp_path / "part")
    (tmp_path / "part" / "a" / "0.png").rename(tmp_path / "part" / "a" / "renamed.png")
    (tmp_path / "part" / "b" / "2.png").unlink()
    part = open_cohort(str(tmp_path / "part"), unit="record")
    assert {entry.subject for entry in part.entries} < {entry.subject for entry in whole.entries}


def test_exact_duplicates_get_numbered_subjects(tmp_path, save_image):
    for name in ("a/0.png", "a/1.png", "b/2.png"):
        save_image(tmp_path / name, seed=0)
    subjects = [entry.subject for entry in open_cohort(str(tmp_path), unit="record").entries]
    assert subjects == [subjects[0], f"{subjects[0]}#2", f"{subjects[0]}#3"]


def test_the_record_unit_replaces_given_subjects_and_allows_their_overlap(make_manifest):
    path = make_manifest("file,patient,label,split", "0.png,a,0,train", "1.png,a,1,train", "2.png,a,1,test")
    cohort = open_cohort(str(path), unit="record")
    assert max(Counter(entry.subject for entry in cohort.entries).values()) == 1
    assert cohort.has_subjects


def test_inspection_opens_what_training_refuses(make_manifest, tmp_path, save_image):
    overlap = make_manifest("file,patient,label,split", "0.png,a,1,train", "1.png,a,1,test")
    assert len(open_cohort(str(overlap), strict=False).entries) == 2
    for i in range(2):
        save_image(tmp_path / "folder" / "only" / f"{i}.png", seed=i)
    cohort = open_cohort(str(tmp_path / "folder"), strict=False)
    assert [entry.subject for entry in cohort.entries] == [None, None]
    assert cohort.load(0).subject == "only/0.png"
