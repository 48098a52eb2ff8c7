"""The cohort that a study's options describe."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from reticent.data import Cohort, SurfaceOptions, open_cohort, parse_profile
from reticent.errors import InputError
from reticent.records import CohortOptions, Study


def surface_options(options: CohortOptions) -> SurfaceOptions:
    """How the study prepares surfaces; raises InputError for a profile of another form."""
    profile = None if options.profile is None else parse_profile(options.profile)
    return SurfaceOptions(options.faces, options.reference, options.length, profile)


def open_study_cohort(
    options: CohortOptions,
    *,
    download: bool = False,
    hashed: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> Cohort:
    """`reticent.data.open_cohort` with a study's options.

    Raises:
        InputError: see there; or there is no such attribute of the acquisition.
    """
    cohort = open_cohort(
        options.uri,
        columns=options.columns,
        labels=options.labels,
        pretrain=options.pretrain,
        markers=options.markers,
        targets=options.targets,
        surfaces=surface_options(options),
        unit=options.unit,
        download=download,
        hashed=hashed,
        progress=progress,
    )
    present = {name for entry in cohort.entries for name in entry.attributes}
    if absent := [name for name in options.acquisition if name not in present]:
        known = ", ".join(sorted(present)) or "none"
        raise InputError(f"{options.uri}: --acquisition {absent[0]}: no such attribute; there are {known}")
    return cohort


def cohort_of(study: Study) -> Cohort:
    """The cohort of a study, opened once by each process: for many runs on the same patients.

    Raises:
        InputError: see `open_study_cohort`.
    """
    return _opened(study.cohort.model_copy(update={"fold": None}).model_dump_json())


@lru_cache(maxsize=4)
def _opened(options: str) -> Cohort:
    return open_study_cohort(CohortOptions.model_validate_json(options))
