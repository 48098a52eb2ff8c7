"""Nested cross-validation by patient: every fold and every search an ordinary run, charged to those it trained on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from reticent.errors import InputError
from reticent.governance import Ledger, ledger_path
from reticent.records import Configuration, Crossval, Study, Sweep, write_json
from reticent.training.crossval.fold_scores import Scored, read_fold_scores
from reticent.training.crossval.plan import (
    Folds,
    Outer,
    by_variant,
    check_design,
    inner_path,
    inner_study,
    outer_study,
)
from reticent.training.crossval.references import reference_scores
from reticent.training.crossval.selection import SELECTION_NOISE, Selection, select
from reticent.training.crossval.summary import OutOfFold, summarise
from reticent.training.crossval.total import total_spending
from reticent.training.many_runs import Job, run_jobs
from reticent.training.plan import make_plan
from reticent.training.prepared_cohort import PreparedCohort
from reticent.training.study_cohort import cohort_of
from reticent.training.train import check_study

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class _Setting:
    variants: Mapping[str, list[Configuration]]
    folds: Folds
    out: Path
    ledger: Path | None
    jobs: int
    backend: str
    progress: Progress

    @property
    def outers(self) -> list[Outer]:
        return [
            Outer(variant, repeat, fold)
            for variant in range(len(self.variants))
            for repeat in range(self.folds.repeats)
            for fold in range(self.folds.number)
        ]

    def options(self, outer: Outer) -> list[Configuration]:
        """What the outer fold's variant is searched over."""
        return list(self.variants.values())[outer.variant]


def cross_validate(
    sweep: Sweep,
    folds: Folds,
    out: Path,
    *,
    ledger: Path | None,
    jobs: int = 1,
    backend: str = "loky",
    selection_noise: float = SELECTION_NOISE,
    progress: Progress,
) -> Crossval:
    """Compare a sweep's variants by their scores of patients that neither their training nor their search saw.

    In every outer fold each variant's options are chosen by inner folds of its training patients, then trained on all
    of them. A cross-validation that was interrupted goes on where it is called again in the same way; the record and
    the scores by pseudonym are also in `out`.

    Raises:
        InputError: the studies do not fit the cohort or each other, a patient has two outcomes, a class fewer patients
            than there are folds, a run failed, or `out` holds something else.
    """
    studies = [configuration.study for configuration in sweep.configurations]
    check_design(sweep, [cohort_of(study) for study in studies], folds)
    for study in studies:
        check_study(study, cohort_of(study))
        make_plan(study, 2)
    _claim(out, sweep, folds, selection_noise)
    setting = _Setting(by_variant(sweep), folds, out, ledger, jobs, backend, progress)
    with Ledger.open(ledger_path(ledger)) as site:
        selections = _search(setting, site, selection_noise)
        chosen = {outer: setting.options(outer)[selection.chosen].study for outer, selection in selections.items()}
        planned = {outer: out / "runs" / outer.name for outer in chosen}
        todo = [Job.of(outer_study(chosen[outer], folds, outer), path, ledger, jobs) for outer, path in planned.items()]
        run_jobs(todo, jobs, backend, lambda done, total: progress("Outer folds", done, total))
        scores = {
            name: [
                [read_fold_scores(planned[Outer(v, repeat, fold)]) for fold in range(folds.number)]
                for repeat in range(folds.repeats)
            ]
            for v, name in enumerate(setting.variants)
        }
        references, note = reference_scores(studies, folds, site)
        epsilon, mu = total_spending(out / "runs", selections.values(), studies[0], selection_noise)
    record = summarise(
        studies[0], cohort_of(studies[0]), folds, scores, references, _chosen(setting, selections),
        (epsilon, mu), runs=len(list((out / "runs").iterdir())), notes=(note,) if note else (),
    )  # fmt: skip
    write_json(out / "crossval.json", record.model_dump(mode="json", by_alias=True), mode=0o600)
    write_json(out / "scores.json", _stored({**scores, **references}), mode=0o600)
    return record


def _search(setting: _Setting, site: Ledger, noise: float) -> dict[Outer, Selection]:
    """The chosen options of every outer fold; nothing is run where there is no choice."""
    inner = range(setting.folds.inner)
    searched = [outer for outer in setting.outers if len(setting.options(outer)) > 1]
    todo = [
        Job.of(inner_study(option.study, setting.folds, outer, i), path, setting.ledger, setting.jobs)
        for outer in searched
        if not _selection_path(setting.out, outer).exists()
        for place, option in enumerate(setting.options(outer))
        for i in inner
        if (path := inner_path(setting.out, outer, place, i))
    ]
    if todo:
        run_jobs(todo, setting.jobs, setting.backend, lambda done, total: setting.progress("Inner folds", done, total))
    found = dict.fromkeys(setting.outers, Selection(0, [], None))
    for outer in searched:
        options = setting.options(outer)
        candidates = [
            [read_fold_scores(inner_path(setting.out, outer, place, i)) for i in inner] for place in range(len(options))
        ]
        study = options[0].study
        data = PreparedCohort(cohort_of(study), outer_study(study, setting.folds, outer), site.derive_key("split"))
        subjects = list(data.subjects("train"))
        found[outer] = select(_selection_path(setting.out, outer), candidates, study, noise, site, subjects)
    return found


def _selection_path(out: Path, outer: Outer) -> Path:
    return out / "selections" / f"{outer.name}.json"


def _chosen(setting: _Setting, selections: Mapping[Outer, Selection]) -> dict[str, dict[str, int]]:
    """How often which options were chosen, by variant."""
    names = list(setting.variants)
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    for outer, selection in selections.items():
        if len(options := setting.options(outer)) > 1:
            chosen = options[selection.chosen].options
            told = ", ".join(f"{path.rpartition('.')[2]} = {value}" for path, value in chosen.items())
            counts[names[outer.variant]][told] += 1
    return {name: dict(counter) for name, counter in counts.items()}


def _stored(scores: OutOfFold) -> dict[str, list[dict[str, Scored]]]:
    return {
        name: [{pseudonym: own for fold in repeat for pseudonym, own in fold.items()} for repeat in repeats]
        for name, repeats in scores.items()
    }


def _claim(out: Path, sweep: Sweep, folds: Folds, noise: float) -> None:
    """Make the folder, or recognise it as this cross-validation's; more repeats may be asked for later."""
    studies: list[Study] = [configuration.study for configuration in sweep.configurations]
    record = {
        "configurations": [study.model_dump(mode="json") for study in studies],
        "folds": folds.number, "inner_folds": folds.inner, "selection_noise": noise,
    }  # fmt: skip
    written = out / "design.json"
    if written.exists():
        if json.loads(written.read_text(encoding="utf-8")) != json.loads(json.dumps(record)):
            raise InputError(f"{out}: holds another cross-validation; choose another --out")
        return
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out}: exists already; choose another --out")
    for folder in ("runs", "selections"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    out.chmod(0o700)
    write_json(written, record)
