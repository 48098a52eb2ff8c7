"""Response as one label: RECIST, the tumour marker CA 19-9, and the clinician where these leave it open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reticent.data.recist import Category
from reticent.errors import InputError

Change = Literal["response", "progress", "neither"]
Composite = Literal["responder", "non-responder", "undetermined"]


@dataclass(frozen=True)
class MarkerRule:
    """When a change of CA 19-9 counts. `reference` is the upper limit of normal in U/ml.

    Raises:
        InputError: a limit is not positive, or the fall is more than the whole.
    """

    reference: float = 37.0
    fall: float = 0.2
    """Relative fall from which on it is a response; studies use 0.2 to 0.5."""
    rise: float = 0.2

    def __post_init__(self) -> None:
        if not (self.reference > 0 and 0 < self.fall <= 1 and self.rise > 0):
            raise InputError(
                f"marker rule {self}: the reference and the rise are above 0, the fall above 0 and up to 1"
            )

    def change(self, before: float | None, now: float | None, *, cholestasis: bool = False) -> Change | None:
        """What c1 is to c0, by (c1 - c0) / c0; None where the marker says nothing.

        It says nothing where a value is missing, c0 is not above the reference (Lewis-negative patients make none), or
        bilirubin is raised: cholestasis raises CA 19-9 too.

        Raises:
            InputError: a value is negative or not finite.
        """
        for value in (before, now):
            if value is not None and not 0 <= value < float("inf"):
                raise InputError(f"CA 19-9 is {value:g} U/ml; give a number of 0 or more, or leave it empty")
        if before is None or now is None or before <= self.reference or cholestasis:
            return None
        relative = (now - before) / before
        if relative <= -self.fall:
            return "response"
        return "progress" if relative >= self.rise else "neither"


def composite_response(
    recist: Category, marker: Change | None = None, clinical: Literal["response", "progress"] | None = None
) -> Composite:
    """One label from three sources: which decides is a convention, stated here and to be stated with every result.

    CR and PR respond and PD does not. Stable disease and what is not evaluable go with the marker where it changed,
    else with the clinician's own evaluation, else they are undetermined: to be left out, and counted.
    """
    if recist in ("CR", "PR"):
        return "responder"
    if recist == "PD":
        return "non-responder"
    decided = marker if marker in ("response", "progress") else clinical
    if decided is None:
        return "undetermined"
    return "responder" if decided == "response" else "non-responder"
