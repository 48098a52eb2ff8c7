"""Opens the cohort that a study names, with all that it says about it."""

from __future__ import annotations

from collections.abc import Callable

from reticent.data import Cohort, SurfaceOptions, open_cohort, parse_profile
from reticent.records import CohortOptions


def surface_options(options: CohortOptions) -> SurfaceOptions:
    """How the study prepares surfaces; raises InputError for a profile of another form."""
    profile = None if options.profile is None else parse_profile(options.profile)
    return SurfaceOptions(options.faces, options.reference, options.length, profile)


def open_studied(
    options: CohortOptions,
    *,
    download: bool = False,
    hashed: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> Cohort:
    """See `reticent.data.open_cohort`, which raises InputError."""
    return open_cohort(
        options.uri,
        columns=options.columns,
        labels=options.labels,
        targets=options.targets,
        surfaces=surface_options(options),
        unit=options.unit,
        download=download,
        hashed=hashed,
        progress=progress,
    )
