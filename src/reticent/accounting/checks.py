"""Checks of numbers that the user chose."""

import math
from numbers import Integral

from reticent.errors import InputError


def require_open(name: str, value: float, low: float, high: float) -> None:
    """Raise `InputError` naming `name` and the range unless low < value < high."""
    if not low < value < high:
        raise InputError(f"{name} is {value!r}; give a number {_range(low, high)}")


def require_sampling_rate(value: float) -> None:
    """Raise `InputError` unless 0 < value <= 1."""
    if not 0 < value <= 1:
        raise InputError(f"sampling_rate is {value!r}; give a number above 0 and at most 1")


def require_steps(value: int) -> None:
    """Raise `InputError` unless value is an integer of at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise InputError(f"steps is {value!r}; give a whole number of at least 1")


def _range(low: float, high: float) -> str:
    return f"above {low:g}" + (" and finite" if math.isinf(high) else f" and below {high:g}")
