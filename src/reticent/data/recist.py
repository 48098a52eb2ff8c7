"""Categories of response by RECIST 1.1, from sums of diameters (Eisenhauer et al. 2009)."""

from __future__ import annotations

from typing import Literal, get_args

from reticent.errors import InputError

Category = Literal["CR", "PR", "SD", "PD", "NE"]
"""Complete or partial response, stable or progressive disease, not evaluable."""
NonTarget = Literal["CR", "non-CR/non-PD", "PD", "NE"]
NON_TARGETS: tuple[NonTarget, ...] = get_args(NonTarget)

MOST_LESIONS, MOST_IN_ORGAN = 5, 2
SMALLEST_LESION, SMALLEST_NODE = 10.0, 15.0
"""Target lesions at the baseline, in mm; nodes by their short axis."""
NORMAL_NODE = 10.0
"""Nodes with a short axis below this many mm are no disease."""
_PARTIAL, _PROGRESS, _LEAST_GROWTH = 0.70, 1.20, 5.0
_ROUNDING = 1e-9


def recist_response(
    baseline: float,
    nadir: float,
    current: float,
    new_lesion: bool = False,
    non_target: NonTarget | None = None,
    *,
    gone: bool | None = None,
) -> Category:
    """Overall category of a visit, from sums of the target lesions' diameters in mm.

    The first row that holds decides.

    | category | holds if |
    | --- | --- |
    | PD | a new lesion, or clear progression of non-target disease |
    | CR | all target lesions gone, and non-target disease too; PR if that is still there or not evaluated |
    | PD | current >= 1.2 nadir and current - nadir >= 5 mm; or anything is there again after a nadir of 0 |
    | PR | current <= 0.7 baseline |
    | SD | else |

    Args:
        nadir: smallest sum so far, the baseline included.
        non_target: None where there is no non-target disease.
        gone: whether all target lesions are; None: the sum is 0. Nodes below 10 mm are gone and still have diameters.

    Raises:
        InputError: a sum is negative or not finite, the baseline is 0, or the nadir larger than the baseline.
    """
    for name, value in (("baseline", baseline), ("nadir", nadir), ("current", current)):
        if not 0 <= value < float("inf"):
            raise InputError(f"the {name} sum is {value:g} mm; give a number of 0 or more")
    if baseline == 0 or nadir > baseline:
        raise InputError(
            f"a baseline of {baseline:g} mm and a nadir of {nadir:g} mm: the one is above 0, the other at most that"
        )
    if new_lesion or non_target == "PD":
        return "PD"
    if current == 0 if gone is None else gone:
        return "CR" if non_target in (None, "CR") else "PR"
    if progressed(nadir, current):
        return "PD"
    return "PR" if current <= _PARTIAL * baseline + _ROUNDING else "SD"


def progressed(nadir: float, current: float) -> bool:
    """Whether a sum is progression over the smallest one before."""
    if nadir == 0:
        return current > 0
    grown = current - nadir
    return current >= _PROGRESS * nadir - _ROUNDING and grown >= _LEAST_GROWTH - _ROUNDING
