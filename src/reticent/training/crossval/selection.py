"""The choice among options inside an outer fold: by AUROC, or privately by noised scores that are charged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import rankdata

from reticent.accounting import Gaussian
from reticent.governance import Budget, Ledger
from reticent.records import Study, new_run_id, read_json, write_json
from reticent.training.crossval.fold_scores import Scored
from reticent.training.evaluation import auc_report
from reticent.training.noise import RandomSource, SeededSource, SystemSource, gaussian_noise

SELECTION_NOISE = 4.0

Folds = Sequence[Mapping[str, Scored]]
"""The scores of each inner fold."""


class Selection(NamedTuple):
    """The place of the chosen options, the score of each, and the run that the ledger charges for choosing."""

    chosen: int
    scores: list[float]
    run: str | None


def select(
    path: Path, candidates: Sequence[Folds], study: Study, noise: float, site: Ledger, subjects: Sequence[str]
) -> Selection:
    """The best of several options by the subjects that their inner folds held out; once, then it is read from `path`.

    Without privacy the score is the AUROC of the subjects' ranks within their folds. With it, it is the sum over
    subjects of 1 - (1 - p)^2, p the probability of the true outcome, with Gaussian noise: among C candidates a subject
    moves the scores by sqrt(C) at most in the L2 norm, and the noise has a standard deviation of `noise` sqrt(C). That
    is one Gaussian mechanism of noise multiplier `noise`, charged to all whom the inner folds held out.

    Args:
        candidates: scores by option and inner fold, of the same `subjects`, who are identifiers.

    Raises:
        InputError: a budget does not admit the choice.
    """
    if path.exists():
        return Selection(**read_json(path))
    if study.privacy.non_private:
        scores = [pooled_auroc(folds) for folds in candidates]
        found = Selection(int(np.argmax(scores)), scores, None)
    else:
        found = _private_selection(candidates, study, noise, site, subjects)
    write_json(path, found._asdict(), mode=0o600)
    return found


def pooled_auroc(folds: Folds) -> float:
    """AUROC of ranks within folds; 0.5 where a class is missing."""
    outcomes = np.array([scored.outcome for fold in folds for scored in fold.values()])
    if outcomes.all() or not outcomes.any():
        return 0.5
    return auc_report(outcomes, np.concatenate([ranks(fold) for fold in folds])).value or 0.0


def ranks(fold: Mapping[str, Scored]) -> np.ndarray:
    """Ranks of a fold's subjects as fractions: scores of different folds come from different networks."""
    return (rankdata([scored.probability for scored in fold.values()]) - 0.5) / len(fold)


def _private_selection(
    candidates: Sequence[Folds], study: Study, noise: float, site: Ledger, subjects: Sequence[str]
) -> Selection:
    sums = np.array([sum(_quality(scored) for fold in folds for scored in fold.values()) for folds in candidates])
    mechanism, run = Gaussian(noise, unit=study.cohort.unit), new_run_id()
    budget = Budget.parse(study.privacy.budget, study.privacy.delta) if study.privacy.budget else None
    site.reserve(
        run=run, cohort=study.cohort.uri, fingerprint=study.digest(), subjects=subjects, unit=study.cohort.unit,
        mechanism=mechanism, budget=budget, details={"purpose": "choice among options in a cross-validation"},
    )  # fmt: skip
    source: RandomSource = SystemSource() if study.privacy.seed is None else SeededSource(study.privacy.seed, 0, 2)
    std = noise * math.sqrt(len(candidates))
    noised = sums + gaussian_noise(torch.zeros(len(candidates), dtype=torch.float64), std, source).numpy()
    site.settle(run, mechanism)
    return Selection(int(np.argmax(noised)), [float(score) for score in noised], run)


def _quality(scored: Scored) -> float:
    """Of one subject, in [0, 1]."""
    right = scored.probability if scored.outcome else 1 - scored.probability
    return 1 - (1 - right) ** 2
