"""Folds by subject: everybody once, alike in classes, or under privacy whatever the others are."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.data import Cohort, Entry, FoldPlace, assign_folds, check_folds
from reticent.errors import InputError

KEY = b"a site's key"


def cohort(outcomes, images=2, splits=None):
    entries = [
        Entry(f"{subject}-{k}.png", subject, (splits or {}).get(subject), label, {}, None)
        for subject, label in outcomes.items()
        for k in range(images)
    ]
    return Cohort("toy", "toy", "binary", ("no", "yes"), entries, {"image": 1}, 2, True, None)


def by_fold(made, folds, stratified, **place):
    """The subjects of each outer fold."""
    found = []
    for number in range(folds):
        splits = assign_folds(made, KEY, FoldPlace(folds, number, **place), stratified=stratified)
        found.append({e.subject for e, split in zip(made.entries, splits, strict=True) if split == "test"})
    return found


@settings(max_examples=30)
@given(st.lists(st.booleans(), min_size=40, max_size=60), st.integers(2, 5), st.booleans())
def test_every_subject_is_held_out_exactly_once_with_all_its_records(labels, folds, stratified):
    made = cohort({f"p{k}": int(label) for k, label in enumerate(labels)})
    if stratified and not folds <= sum(labels) <= len(labels) - folds:
        return
    if not stratified and len(labels) < 8 * folds:  # a fold could come out empty, which is refused
        folds = 2
    found = by_fold(made, folds, stratified)
    assert sorted(name for fold in found for name in fold) == sorted(f"p{k}" for k in range(len(labels)))
    if stratified:
        positives = [sum(labels[int(name[1:])] for name in fold) for fold in found]
        assert max(positives) - min(positives) <= 1
        assert max(map(len, found)) - min(map(len, found)) <= 1


def test_inner_folds_hold_out_training_subjects_only_and_the_outer_fold_is_not_looked_at():
    made = cohort({f"p{k}": k % 2 for k in range(40)})
    outer = by_fold(made, 4, True)[1]
    seen = Counter()
    for inner in range(3):
        splits = assign_folds(made, KEY, FoldPlace(4, 1, 0, 3, inner), stratified=True)
        own = {entry.subject: split for entry, split in zip(made.entries, splits, strict=True)}
        assert {name for name, split in own.items() if split == "unlabelled"} == outer
        seen.update(name for name, split in own.items() if split == "val")
    assert set(seen.values()) == {1}
    assert set(seen) == {f"p{k}" for k in range(40)} - outer


def test_under_privacy_a_subjects_fold_does_not_depend_on_the_others():
    whole = cohort({f"p{k}": k % 2 for k in range(60)})
    fewer = cohort({f"p{k}": k % 2 for k in range(60) if k != 7})
    for all_of_them, without in zip(by_fold(whole, 3, False), by_fold(fewer, 3, False), strict=True):
        assert all_of_them - {"p7"} == without


def test_repeats_have_other_folds_and_public_records_stay_public():
    made = cohort({f"p{k}": k % 2 for k in range(40)}, splits={"p0": "public", "p1": "test"})
    assert by_fold(made, 4, True) != by_fold(made, 4, True, repeat=1)
    assert not any("p0" in fold for fold in by_fold(made, 4, True))
    assert any("p1" in fold for fold in by_fold(made, 4, True))


def test_two_outcomes_and_rare_classes_are_refused():
    torn = cohort({"a": 0, "b": 1, "c": 0, "d": 1})
    torn.entries.append(Entry("late.png", "a", None, 1, {}, None))
    with pytest.raises(InputError, match=r"subject a has two outcomes, no \(a-0.png\) and yes \(late.png\)"):
        check_folds(torn, 2)
    with pytest.raises(InputError, match="1 subjects of class 'yes' are fewer than 2 folds; use at most 1"):
        check_folds(cohort({"a": 0, "b": 0, "c": 0, "d": 1}), 2)
