"""What one patient was exposed to in a whole cross-validation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from reticent.accounting import Composition, Gaussian, Mechanism, Unbounded, mechanism_from_dict
from reticent.records import Number, RunFolder, Study, privacy_numbers
from reticent.training.crossval.selection import Selection


def total_spending(
    runs: Path, selections: Iterable[Selection], study: Study, selection_noise: float
) -> tuple[Number, Number]:
    """Epsilon at the study's delta and mu of all runs and choices together, for the patient with the most of them.

    Every choice that was made with noise is counted for every patient: those of folds that held a patient out are too
    many, which is on the safe side. Jobs outside `runs` are not counted: the ledger has them.
    """
    unit, delta = study.cohort.unit, study.privacy.stated_delta
    if study.privacy.non_private:
        mechanism: Mechanism = Unbounded("trained without noise (--non-private)", unit=unit)
        return _numbers(mechanism, delta)
    spent: dict[str, list[Mechanism]] = {}
    for path in sorted(runs.iterdir()):
        folder = RunFolder(path)
        used = mechanism_from_dict(folder.statement().mechanism)
        for pseudonym in folder.training_pseudonyms():
            spent.setdefault(pseudonym, []).append(used)
    choices = sum(selection.run is not None for selection in selections)
    choosing = (Gaussian(selection_noise, unit=unit),) * choices
    histories = {frozenset(Counter(own).items()): own for own in spent.values()}
    found = [_numbers(Composition((*own, *choosing)), delta) for own in histories.values()]
    epsilon, mu = (max(kind, key=lambda number: number.upper or float("inf")) for kind in zip(*found, strict=True))
    return epsilon, mu


def _numbers(mechanism: Mechanism, delta: float) -> tuple[Number, Number]:
    numbers = privacy_numbers(mechanism, delta)
    return numbers["epsilon"], numbers["mu"]
