"""What cross-validated figures must not be: biased by pooling folds, or by what the held-out fold holds."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from reticent.data import FoldPlace, assign_folds, open_cohort
from reticent.records import make_study
from reticent.training import PreparedCohort, auc_report, hanley_mcneil
from reticent.training.crossval.fold_scores import Scored
from reticent.training.crossval.selection import pooled_auroc, ranks
from reticent.training.reference_models import fit_and_score, reference_features

PATIENTS, FOLDS = 60, 5


@pytest.fixture
def cohort(make_manifest_of_markers):
    return open_cohort(str(make_manifest_of_markers(PATIENTS)), markers={"a": "", "b": "log"})


@pytest.fixture
def make_manifest_of_markers(tmp_path):
    """Patients with two markers that say nothing about the label; all share one tiny image in different files."""
    from PIL import Image

    def make(patients):
        rng = np.random.default_rng(0)
        rows = []
        for k in range(patients):
            Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(tmp_path / f"{k}.png")
            rows.append((f"{k}.png", f"p{k}", k % 2, rng.normal(5, 2), rng.exponential(10)))
        path = tmp_path / "manifest.csv"
        pd.DataFrame(rows, columns=["file", "subject", "label", "a", "b"]).to_csv(path, index=False)
        return path

    return make


def prepared(cohort, number, repeat=0):
    fold = {"folds": FOLDS, "number": number, "repeat": repeat}
    study = make_study({"cohort": {"uri": cohort.uri, "markers": {"a": "", "b": "log"}, "fold": fold},
                        "privacy": {"non_private": True}})  # fmt: skip
    return PreparedCohort(cohort, study, b"key")


def shuffled(cohort, seed):
    labels = np.random.default_rng(seed).permutation([entry.label for entry in cohort.entries])
    entries = [replace(entry, label=int(label)) for entry, label in zip(cohort.entries, labels, strict=True)]
    return replace(cohort, entries=entries)


def out_of_fold(cohort, repeat):
    """Scores by fold of a logistic regression on the markers."""
    found = []
    for number in range(FOLDS):
        data = prepared(cohort, number, repeat)
        train, test = ([i for own in data.subjects(split).values() for i in own] for split in ("train", "test"))
        told = fit_and_score(cohort, reference_features(data, train)["markers alone"], train, test)[:, 1]
        scored = zip(test, told, strict=True)
        found.append({f"p{i}": Scored(cohort.entries[i].label, float(p)) for i, p in scored})
    return found


def test_shuffled_labels_have_an_auroc_of_a_half_over_repeats(cohort):
    """30 shuffles; their mean is within 2 standard errors of one AUROC, 10 of its own: no pooling bias is as small."""
    found = [pooled_auroc(out_of_fold(shuffled(cohort, seed), seed)) for seed in range(30)]
    assert abs(np.mean(found) - 0.5) < 2 * hanley_mcneil(0.5, 30, 30)
    assert abs(np.mean(found) - 0.5) < 5 * np.std(found) / np.sqrt(30)


def test_pooling_probabilities_in_place_of_ranks_would_be_biased():
    """Folds whose networks differ by a shift: ranks tell nothing of it, pooled probabilities do."""
    rng = np.random.default_rng(0)
    folds = []
    for shift, positive in ((0.0, 3), (5.0, 7)):
        outcomes = np.arange(10) < positive
        folds.append({f"{shift}-{k}": Scored(int(o), shift + rng.random()) for k, o in enumerate(outcomes)})
    outcomes = [s.outcome for fold in folds for s in fold.values()]
    pooled = auc_report(outcomes, [s.probability for fold in folds for s in fold.values()]).value
    within = np.mean([auc_report([s.outcome for s in f.values()], ranks(f)).value for f in folds])
    assert abs(pooled_auroc(folds) - within) < abs(pooled - within) / 2


def test_scales_come_from_training_patients_only(cohort):
    """Whatever stands in the held-out fold, the transform that training sees is the same."""
    data = prepared(cohort, 1)
    train = [i for own in data.subjects("train").values() for i in own]
    changed = list(cohort.entries)
    for i, split in enumerate(data.splits):
        if split == "test":
            changed[i] = replace(changed[i], locator=replace(changed[i].locator, values=np.full(2, 1e6, np.float32)))
    other = prepared(replace(cohort, entries=changed), 1)
    assert other.splits == data.splits
    assert other.marker_scales == data.marker_scales
    before, after = (reference_features(d, train)["markers alone"] for d in (data, other))
    assert np.array_equal(before[train], after[train])
    assert prepared(cohort, 2).marker_scales != data.marker_scales


def test_a_run_with_a_fold_has_the_splits_of_its_key(cohort):
    splits = assign_folds(cohort, b"key", FoldPlace(FOLDS, 3), stratified=True)
    assert prepared(cohort, 3).splits == splits
