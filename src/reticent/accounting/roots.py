"""Roots of functions of one number."""

from collections.abc import Callable


def root(function: Callable[[float], float], low: float, high: float, xtol: float, rtol: float) -> float:
    """The root between two numbers at which the function has opposite signs (Brent, 1973)."""
    from scipy.optimize import brentq  # imported here: accounting is to import in well under a second

    return float(brentq(function, low, high, xtol=xtol, rtol=rtol))
