"""Reference models: what the markers, their gaps and the acquisition alone tell of the outcome, without any image.

An image model that is no better than these may have learnt nothing else. They are logistic regressions with a ridge
penalty (C = 1), fitted to private records without noise: only where the run itself is not private, or to public ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from reticent.data import Cohort, marker_values
from reticent.records import SplitMetrics
from reticent.training.evaluation import Kind, evaluate_classification
from reticent.training.prepared_cohort import PreparedCohort

NOT_FITTED = (
    "Models of the markers, of their gaps and of the acquisition alone were not fitted: without noise they would not "
    "be covered. Run each as a job of its own, which is charged like any other: --model markers, --model markers "
    "--model-argument 'inputs=[\"missing\"]', and the acquisition as markers; or give the cohort records of the split "
    "public."
)
_SHOWN = ("auroc", "balanced_accuracy", "brier")


def reference_metrics(data: PreparedCohort) -> tuple[dict[str, tuple[SplitMetrics, ...]], str | None]:
    """Metrics of every reference model on the held-out splits by its name, and why there are none, if there should be.

    Needs no decoded images.
    """
    study = data.study
    if not (study.cohort.markers or study.cohort.acquisition) or data.cohort.task not in ("binary", "multi-class"):
        return {}, None
    noiseless = study.privacy.non_private or study.training.twin
    fitted_to = _labelled(data, "train" if noiseless else "public")
    if len({data.cohort.entries[i].label for i in fitted_to}) < 2:
        return {}, NOT_FITTED
    splits = {split: _labelled(data, split) for split in ("val", "test")}
    scored = {split: records for split, records in splits.items() if records}
    found: dict[str, tuple[SplitMetrics, ...]] = {}
    for name, features in reference_features(data, fitted_to).items():
        found[name] = tuple(
            _metrics(data.cohort, records, fit_and_score(data.cohort, features, fitted_to, records), split)
            for split, records in scored.items()
        )
    return found, None


def reference_features(data: PreparedCohort, fitted_to: Sequence[int]) -> dict[str, np.ndarray]:
    """Features (records, d) of the whole cohort, by reference model; scales and categories are those of `fitted_to`."""
    cohort, found = data.cohort, dict[str, np.ndarray]()
    if data.study.cohort.markers:
        values, missing = marker_values(cohort, range(len(cohort.entries)))
        centre, scale = np.array(data.marker_scales).T
        found["markers alone"] = np.hstack([np.nan_to_num((values - centre) / scale, nan=0.0), missing])
        if missing.any():
            found["missing values alone"] = missing
    if data.study.cohort.acquisition:
        columns = [
            np.array([entry.attributes.get(name, "missing") for entry in cohort.entries])
            for name in data.study.cohort.acquisition
        ]
        found["acquisition alone"] = np.hstack(
            [column[:, None] == np.unique(column[list(fitted_to)]) for column in columns]
        ).astype(float)
    return found


def fit_and_score(cohort: Cohort, features: np.ndarray, fitted_to: Sequence[int], scored: Sequence[int]) -> np.ndarray:
    """Class probabilities (n, classes) of the records `scored`; a subject weighs as much as another when fitting."""
    from sklearn.linear_model import LogisticRegression

    subjects = [str(cohort.entries[i].subject) for i in fitted_to]
    weights = [1 / subjects.count(subject) for subject in subjects]
    model = LogisticRegression(max_iter=1000)
    model.fit(features[list(fitted_to)], cohort.labels([cohort.entries[i] for i in fitted_to]), weights)
    probabilities = np.zeros((len(scored), len(cohort.classes)))
    probabilities[:, model.classes_] = model.predict_proba(features[list(scored)])
    return probabilities


def _labelled(data: PreparedCohort, split: str) -> list[int]:
    return [i for own in data.labelled(split).values() for i in own]


def _metrics(cohort: Cohort, records: Sequence[int], probabilities: np.ndarray, split: str) -> SplitMetrics:
    entries = [cohort.entries[i] for i in records]
    found = evaluate_classification(
        cast(Kind, cohort.task), probabilities, cohort.labels(entries), [str(entry.subject) for entry in entries],
        [{} for _ in entries], cohort.classes, split,
    )  # fmt: skip
    shown = {name: found.metrics[name] for name in _SHOWN}
    return found.model_copy(update={"metrics": shown, "groups": (), "curves": {}})
