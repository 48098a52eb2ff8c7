"""What the markers of a cohort hold, for its owner: values of patients without noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reticent.data.cohort import Cohort
from reticent.data.markers import Marker, marker_values


@dataclass(frozen=True)
class MarkerSummary:
    """One marker over all records.

    `missing` counts the records without value. `spread` is (least, median, largest) of the others, in the column's unit
    and within its declared limits, to six digits; None for categories, and if there is no value. `counts` has the
    records of each category.
    """

    missing: int
    spread: tuple[float, float, float] | None
    counts: Mapping[str, int]


def summarise_markers(cohort: Cohort, markers: Sequence[Marker]) -> dict[str, MarkerSummary]:
    """The markers that the cohort was opened with, by name."""
    if not markers:
        return {}
    values, missing = marker_values(cohort, range(len(cohort.entries)))
    starts = np.cumsum([0, *(marker.length for marker in markers)])
    return {
        marker.name: _summary(marker, values[missing[:, k] == 0, starts[k] : starts[k + 1]], int(missing[:, k].sum()))
        for k, marker in enumerate(markers)
    }


def _summary(marker: Marker, given: np.ndarray, missing: int) -> MarkerSummary:
    """Of `given` (records with a value, components)."""
    if marker.categories:
        counts = given.sum(0).astype(int).tolist()
        return MarkerSummary(missing, None, dict(zip(marker.categories, counts, strict=True)))
    if not len(given):
        return MarkerSummary(missing, None, {})
    numbers = np.expm1(given[:, 0]) if marker.log else given[:, 0]
    least, middle, largest = (float(f"{number:.6g}") for number in np.quantile(numbers, [0, 0.5, 1]))
    return MarkerSummary(missing, (least, middle, largest), {})
