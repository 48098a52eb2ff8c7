"""A command that `torchrun` launched several times: rank 0 decides and prints, the others follow."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from reticent.launch import end_in_order, launched_together

T = TypeVar("T")


def on_rank_zero(compute: Callable[[], T]) -> T:
    """What `compute` returns, called by rank 0 alone and handed to all; its InputError ends all and is printed once."""
    if not launched_together():
        return compute()
    from reticent.training import join_ranks

    end_in_order()
    return join_ranks().first(compute)


def on_all_ranks() -> AbstractContextManager[None]:
    """An InputError of one rank in the body ends all, and is printed once."""
    if not launched_together():
        return nullcontext()
    from reticent.training import join_ranks

    return join_ranks().together()
