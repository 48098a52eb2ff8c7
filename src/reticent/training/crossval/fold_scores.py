"""What a run of a cross-validation says of the subjects that its fold held out. It stays with the run, uncovered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from reticent.data import Cohort
from reticent.governance import Ledger
from reticent.records import RunFolder, read_json, write_json
from reticent.training.predictor import Predictor
from reticent.training.prepared_cohort import PreparedCohort

_FILE = "fold_scores.json"


class Scored(NamedTuple):
    """A held-out subject: its outcome, 0 or 1, and the mean over its records of the probability of 1."""

    outcome: int
    probability: float


def write_fold_scores(folder: RunFolder, cohort: Cohort, ledger: Path | None) -> None:
    """Score the held-out fold of a finished run, once; other runs are left alone."""
    fold, path = folder.study().cohort.fold, folder.private / _FILE
    if fold is None or path.exists():
        return
    with Ledger.open(ledger or Path(folder.state().ledger)) as site:
        data = PreparedCohort(cohort, folder.study(), site.derive_key("split"))
        predictor, found = Predictor(folder), dict[str, list[float]]()
        for subject, records in data.labelled("val" if fold.inner_folds else "test").items():
            told = predictor.class_probabilities([cohort.load(i) for i in records])[:, 1].mean()
            found[site.pseudonym(subject)] = [float(cohort.entries[records[0]].label == 1), float(told)]
    write_json(path, found, mode=0o600)


def read_fold_scores(path: Path) -> Mapping[str, Scored]:
    """By pseudonym."""
    stored = read_json(RunFolder(path).private / _FILE)
    return {pseudonym: Scored(int(outcome), probability) for pseudonym, (outcome, probability) in stored.items()}
