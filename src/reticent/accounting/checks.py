"""Checks of numbers that the user chose."""

import math
from collections.abc import Sequence
from numbers import Integral

import numpy as np
import numpy.typing as npt

from reticent.errors import InputError


def require_open(name: str, value: float, low: float, high: float) -> None:
    """Raise `InputError` naming `name` and the range unless low < value < high."""
    if not low < value < high:
        raise InputError(f"{name} is {value!r}; give a number {_range(low, high)}")


def require_sampling_rate(value: float) -> None:
    """Raise `InputError` unless 0 < value <= 1."""
    if not 0 < value <= 1:
        raise InputError(f"sampling_rate is {value!r}; give a number above 0 and at most 1")


def require_steps(value: int, name: str = "steps", least: int = 1) -> None:
    """Raise `InputError` naming `name` unless value is a whole number of at least `least`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise InputError(f"{name} is {value!r}; give a whole number of at least {least}")


def require_alphas(alpha: float | Sequence[float] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Type I errors as a one-dimensional array; raises `InputError` unless all lie in [0, 1]."""
    alphas = np.atleast_1d(np.asarray(alpha, dtype=np.float64))
    for value in alphas[~((alphas >= 0) & (alphas <= 1))]:
        raise InputError(f"alpha is {float(value)!r}; give a number from 0 to 1")
    return alphas


def _range(low: float, high: float) -> str:
    if math.isinf(low):
        return "that is finite"
    return f"above {low:g}" + (" and finite" if math.isinf(high) else f" and below {high:g}")
