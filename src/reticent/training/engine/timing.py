"""How long something takes at best, and for what sizes that may be assumed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

_REPEATS, _ENOUGH_SECONDS = 3, 0.1


def magnitude(count: int) -> int:
    """The power of two that is next to a count: what was timed for one batch holds for others of about its size."""
    return round(math.log2(count)) if count else -1


def shortest(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of the shortest of a few runs; the first one makes room, warms up and measures what lies inside."""
    best, spent = float("inf"), 0.0
    for turn in range(_REPEATS):
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
        best = min(best, seconds)
        spent += seconds if turn else 0.0
        if spent > _ENOUGH_SECONDS:
            break
    return best
