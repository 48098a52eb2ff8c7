from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.data import Entry, assign_splits, open_cohort
from reticent.errors import InputError

PHANTOM = open_cohort("phantom:chest?subjects=3")


def cohort_of(*records: tuple[str, str | None]):
    entries = [Entry(str(i), subject, split, 0, {}, None) for i, (subject, split) in enumerate(records)]
    return replace(PHANTOM, entries=entries)


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=16, max_size=32), st.data())
def test_a_subjects_split_does_not_depend_on_the_others(key, data):
    subjects = [f"patient {i}" for i in range(200)]
    splits = dict(zip(subjects, assign_splits(cohort_of(*[(s, None) for s in subjects]), key), strict=True))
    others = data.draw(st.lists(st.sampled_from(subjects), min_size=120, unique=True))
    drawn = assign_splits(cohort_of(*[(s, None) for s in others]), key)
    assert drawn == [splits[subject] for subject in others]


def test_all_records_of_a_subject_share_its_split():
    cohort = open_cohort("phantom:chest")
    found = {}
    for entry, split in zip(cohort.entries, assign_splits(cohort, b"key"), strict=True):
        assert found.setdefault(entry.subject, split) == split


def test_the_shares_are_those_asked_for():
    # Binomial counts, n = 10000: five and a half standard deviations, a false alarm in fewer than 1e-7 of keys.
    splits = assign_splits(cohort_of(*[(str(i), None) for i in range(10_000)]), b"key", val=0.1, test=0.3)
    for split, share in (("val", 0.1), ("test", 0.3), ("train", 0.6)):
        assert splits.count(split) / 10_000 == pytest.approx(share, abs=5.5 * np.sqrt(share * (1 - share) / 10_000))


def test_another_key_gives_other_splits():
    cohort = cohort_of(*[(str(i), None) for i in range(200)])
    assert assign_splits(cohort, b"one") != assign_splits(cohort, b"two")


def test_given_splits_are_kept_and_nothing_is_carved_out_of_them():
    cohort = cohort_of(*[(str(i), "test" if i < 20 else "train") for i in range(100)])
    assert assign_splits(cohort, b"key") == ["test"] * 20 + ["train"] * 80


def test_a_record_without_a_split_follows_its_subjects_given_one():
    records = [("a", "test"), ("a", None)] + [(str(i), None) for i in range(100)]
    for key in (b"1", b"2", b"3", b"4", b"5"):
        assert assign_splits(cohort_of(*records), key)[1] == "test"


def test_an_empty_training_or_validation_split_is_refused():
    with pytest.raises(InputError, match="split val came out empty"):
        assign_splits(cohort_of(("a", "train"), ("b", "train"), ("c", None)), b"key", val=1e-12, test=0)
    with pytest.raises(InputError, match="split train came out empty"):
        assign_splits(cohort_of(("a", None), ("b", None)), b"key", val=1, test=0)
