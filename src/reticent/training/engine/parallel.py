"""Small per-unit kernels, spread over threads by unit: a library would spread the inside of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier

import torch
from torch import Tensor

from reticent.training.engine.units import Units
from reticent.training.engine.workspace import CHUNK_BYTES


def for_each_unit(
    one: Callable[[Tensor, Tensor], Tensor], x: Tensor, g: Tensor, units: Units, made: Tensor
) -> Iterator[Tensor]:
    """`one` of every unit's rows of `x` and `g`, into `made` (units, ...), of which it yields some units at a time."""
    threads = torch.get_num_threads() if made.device.type == "cpu" else 1
    few = max(threads, CHUNK_BYTES // made[0].nbytes)
    factors = list(zip(made.unbind(), x.split(units.counts), g.split(units.counts), strict=True))
    for start in range(0, len(units), few):
        some = factors[start : start + few]
        if threads == 1 or len(some) < threads:
            _fill(one, some)
        else:
            workers = [_pool(threads).submit(_fill, one, some[first::threads]) for first in range(threads)]
            for worker in workers:
                worker.result()
        yield made[start : start + few]


@torch.no_grad()
def _fill(one: Callable[[Tensor, Tensor], Tensor], factors: Sequence[tuple[Tensor, Tensor, Tensor]]) -> None:
    for into, x, g in factors:
        into.copy_(one(x, g))


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Workers of one intra-operation thread each; the caller's own number of threads stays."""
    ready = ThreadPoolExecutor(threads, "clipped-sum", initializer=torch.set_num_threads, initargs=(1,))
    all_there = Barrier(threads)
    for worker in [ready.submit(all_there.wait) for _ in range(threads)]:
        worker.result()
    torch.set_num_threads(threads)
    return ready
