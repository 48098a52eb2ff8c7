"""Whether this process is one of several (ranks) that `torchrun` launched; known without importing PyTorch."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from reticent.errors import InputError


class ToldError(InputError):
    """An error that rank 0 reports for all; the other ranks end with it in silence."""


class RanksLostError(InputError):
    """Another rank ended or does not answer; the run can be resumed."""

    def __init__(self, what: str, rank: int) -> None:
        super().__init__(
            f"rank {rank}: {what}.\n"
            "The steps so far are spent; continue with `reticent train --resume RUN`, on any number of processes."
        )


def launched_together() -> bool:
    """Whether the environment is that of one process of several."""
    environment = os.environ
    return {"RANK", "MASTER_ADDR"} <= environment.keys() and int(environment.get("WORLD_SIZE", "1")) > 1


def own_rank() -> int:
    """This process's rank in its launch; 0 if it is alone."""
    return int(os.environ["RANK"]) if launched_together() else 0


def end_in_order() -> None:
    """Let SIGTERM, which `torchrun` sends to the rest once a rank has failed, raise RanksLostError: once."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _ended)


def ignore_sigterm() -> None:
    """For what is still to be saved: a rank that was lost makes `torchrun` send SIGTERM to the rest."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is _ended:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _ended(number: int, frame: FrameType | None) -> Any:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise RanksLostError("stopped by SIGTERM, as when another process of the run has ended", own_rank())
