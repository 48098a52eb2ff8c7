"""The cohort that a study's options describe."""

from __future__ import annotations

from collections.abc import Callable

from reticent.data import Cohort, open_cohort
from reticent.errors import InputError
from reticent.records import CohortOptions


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
        markers=options.markers,
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
