"""From tests to bounds: the largest value that a test rejects, and the smallest level at which it does."""

from __future__ import annotations

import math
from collections.abc import Callable

_LARGEST = 200.0


def largest_rejected(rejected: Callable[[float], bool]) -> float:
    """A value that is rejected and above which nothing much is, by bisection up to 200; 0 if 0 is not rejected."""
    if not rejected(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while high < _LARGEST and rejected(high):
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if rejected(middle) else (low, middle)
    return low


def smallest_level(rejected: Callable[[float], bool]) -> float:
    """The p-value: the smallest level that rejects, rounded up; 1 if none does, at least e^-200."""
    if not rejected(1.0):
        return 1.0
    return math.exp(-largest_rejected(lambda exponent: rejected(math.exp(-exponent))))
