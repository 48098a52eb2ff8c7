"""Reference models without images in the same outer folds."""

from __future__ import annotations

from collections.abc import Sequence

from reticent.governance import Ledger
from reticent.records import Study
from reticent.training.crossval.fold_scores import Scored
from reticent.training.crossval.plan import Folds, Outer, outer_study
from reticent.training.crossval.summary import OutOfFold
from reticent.training.prepared_cohort import PreparedCohort
from reticent.training.reference_models import NOT_FITTED, fit_and_score, reference_features
from reticent.training.study_cohort import cohort_of


def reference_scores(studies: Sequence[Study], folds: Folds, site: Ledger) -> tuple[OutOfFold, str | None]:
    """Scores by reference model, and why there are none; scales and categories come from the training patients."""
    study = next((s for s in studies if s.cohort.markers), studies[0])
    acquisition = next((s.cohort.acquisition for s in studies if s.cohort.acquisition), ())
    if not (study.cohort.markers or acquisition):
        return {}, None
    if not study.privacy.non_private:
        return {}, NOT_FITTED
    study = study.model_copy(update={"cohort": study.cohort.model_copy(update={"acquisition": acquisition})})
    found: dict[str, list[list[dict[str, Scored]]]] = {}
    for repeat in range(folds.repeats):
        for fold in range(folds.number):
            for name, scored in _fold(outer_study(study, folds, Outer(0, repeat, fold)), site).items():
                repeats = found.setdefault(name, [])
                if len(repeats) <= repeat:
                    repeats.append([])
                repeats[repeat].append(scored)
    return found, None


def _fold(study: Study, site: Ledger) -> dict[str, dict[str, Scored]]:
    cohort = cohort_of(study)
    data = PreparedCohort(cohort, study, site.derive_key("split"))
    train = [i for own in data.labelled("train").values() for i in own]
    held_out = data.labelled("test")
    scored = [i for own in held_out.values() for i in own]
    found: dict[str, dict[str, Scored]] = {}
    for name, features in reference_features(data, train).items():
        probabilities = dict(zip(scored, fit_and_score(cohort, features, train, scored)[:, 1].tolist(), strict=True))
        found[name] = {
            site.pseudonym(subject): Scored(
                int(cohort.entries[own[0]].label == 1), sum(probabilities[i] for i in own) / len(own)
            )
            for subject, own in held_out.items()
        }
    return found
