"""What is fixed instead of measured, for runs that must add up in the same order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from reticent.errors import InputError

GHOST, RECOMPUTE = "ghost", "+recompute"
_WAYS = (GHOST, "bmm", "loop", "grouped", "windows", "winograd")
FIXED: ContextVar[str | None] = ContextVar("fixed strategy", default=None)
"""The strategy that the user fixed; None: layers' ways and the libraries of products are measured."""


@contextmanager
def strategy(name: str) -> Iterator[None]:
    """Use one strategy instead of measuring: `"rule"`, or a way's name where a layer has it and the rule elsewhere.

    Names are `"ghost"`, `"bmm"`, `"loop"`, and for convolutions `"grouped"`, `"windows"` and `"winograd"`; with
    `"+recompute"` gradients are made for their norms, dropped, and made again for the sum. `"rule"` depends on shapes
    alone, so that two runs add up in the same order.
    """
    known = {"rule", *(way + end for way in _WAYS for end in ("", RECOMPUTE))}
    if name not in known:
        raise InputError(f"strategy {name!r} is not known; use one of {', '.join(sorted(known))}")
    token = FIXED.set(name)
    try:
        yield
    finally:
        FIXED.reset(token)


@contextmanager
def default_strategy() -> Iterator[None]:
    """Measure nothing: what the user fixed, or else the rule."""
    with strategy(FIXED.get() or "rule"):
        yield
