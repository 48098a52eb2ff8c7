"""What of a cohort's address is no record of it, and what its owner should look at, in a line each."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reticent.data import Cohort


def left_out_words(cohort: Cohort) -> str:
    """The number, and the three most frequent reasons."""
    reasons = Counter(each.reason for each in cohort.left_out).most_common(3)
    listed = "; ".join(f"{reason} ({number})" for reason, number in reasons)
    return f"Left out: {len(cohort.left_out)}: {listed} … (`reticent data COHORT` lists all)"


def remark_words(cohort: Cohort) -> str:
    """How many remarks there are of each kind."""
    listed = "; ".join(f"{title}: {len(lines)}" for title, lines in cohort.remarks.items())
    return f"To look at: {listed} (`reticent data COHORT` lists them)"
