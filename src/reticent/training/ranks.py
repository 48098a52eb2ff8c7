"""The processes (ranks) that train one run together, over `torch.distributed`; a process alone never touches it.

What passes between ranks is private: indices drawn and clipped sums without noise. It stays in the process group.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from reticent.errors import InputError, first_line
from reticent.launch import RanksLostError, ToldError, ignore_sigterm, launched_together, own_rank
from reticent.training.real_coordinates import real_coordinates

T = TypeVar("T")

STEP_TIMEOUT = timedelta(minutes=10)
"""How long a sum waits for the slowest rank. A rank that has died is noticed at once, by its closed connection."""
WAIT_TIMEOUT = timedelta(hours=24)
"""How long the others wait while rank 0 works alone: it reads the images, or evaluates."""


@dataclass(frozen=True)
class Ranks:
    """This process's place among those of the run. Every method but `leads` is called by all ranks, in one order."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Rank 0: owns ledger, run folder, journal, random source and report."""
        return self.rank == 0

    def first(self, compute: Callable[[], T]) -> T:
        """What `compute` returns on rank 0, which alone calls it.

        Raises:
            InputError: `compute` raised it on rank 0; on the other ranks as ToldError.
            RanksLostError: another rank ended.
        """
        if self.size == 1:
            return compute()
        box: list[Any] = [None]
        failure: InputError | None = None
        if self.leads:
            try:
                box[0] = (True, compute())
            except InputError as error:
                box[0], failure = (False, str(error)), error
                ignore_sigterm()  # the others may end before this rank has said why
        with answering():
            dist.broadcast_object_list(box, src=0, group=_control[1])
        if failure is not None:
            raise failure
        done, value = box[0]
        if not done:
            raise ToldError(value)
        return value

    @contextmanager
    def together(self) -> Iterator[None]:
        """Run the body on every rank; an InputError of one is raised on all, by rank 0 with the other's number."""
        failure: InputError | None = None
        try:
            yield
        except InputError as error:
            if self.size == 1:
                raise
            failure = error
        if self.size == 1:
            return
        said: list[str | None] = [None] * self.size
        with answering():
            dist.all_gather_object(said, None if failure is None else str(failure), group=_control[1])
        for rank, text in enumerate(said):
            if text is None:
                continue
            if not self.leads:
                raise ToldError(text) from failure
            ignore_sigterm()
            raise failure or InputError(f"rank {rank}: {text}")

    def total(self, part: Tensor) -> Tensor:
        """The sum of every rank's `part` (of one shape), on rank 0; what the other ranks get means nothing."""
        if self.size == 1:
            return part
        whole = part.detach().clone(memory_format=torch.contiguous_format)
        with answering():
            dist.reduce(real_coordinates(whole), 0)  # gloo adds no complex numbers
        return whole

    def spread(self, value: Tensor) -> Tensor:
        """Rank 0's `value`; the other ranks pass a tensor of its shape and type, which may be overwritten."""
        if self.size == 1:
            return value
        value = value.detach().contiguous()
        with answering():
            dist.broadcast(value, 0)
        return value


ALONE = Ranks()
_control: tuple[Any, Any] = (None, None)
"""The world, and a gloo group of all its ranks for what is not a sum. Held here alone, so that `_leave` can end it."""


def join_ranks() -> Ranks:
    """The ranks of this launch; the process group is made (gloo) if `torchrun` launched several and none was made yet.

    Raises:
        InputError: the ranks did not find each other.
    """
    if not dist.is_available() or not (dist.is_initialized() or launched_together()):
        return ALONE
    global _control
    try:
        if not dist.is_initialized():
            dist.init_process_group("gloo", timeout=STEP_TIMEOUT)
        if dist.get_world_size() == 1:
            return ALONE
        if _control[0] is not dist.group.WORLD:
            _control = (dist.group.WORLD, dist.new_group(backend="gloo", timeout=WAIT_TIMEOUT))
            atexit.register(_leave)
    except RuntimeError as error:
        found = f"the processes of the run did not find each other ({first_line(error)})"
        raise RanksLostError(found, own_rank()) from error
    return Ranks(dist.get_rank(), dist.get_world_size())


def _leave() -> None:
    """A group that is still open when Python ends would abort the process."""
    global _control
    _control = (None, None)
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def answering() -> Iterator[None]:
    """Turn the errors of a collective into one that says what to do.

    Raises:
        RanksLostError: another rank ended or did not answer in time.
    """
    try:
        yield
    except RuntimeError as error:  # gloo raises it bare, NCCL as a DistError
        ignore_sigterm()
        raise RanksLostError("another process of the run has ended or does not answer", dist.get_rank()) from error
