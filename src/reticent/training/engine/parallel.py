"""Small per-unit kernels, spread over threads by unit: a library would spread the inside of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier

import torch
from torch import Tensor


def for_each_unit(one: Callable[[slice], Tensor], slices: Sequence[slice], made: Tensor) -> Tensor:
    """`one` of each slice of rows, stacked into `made`, (units, ...), which is returned."""
    threads = torch.get_num_threads()
    if threads == 1 or made.device.type != "cpu" or len(slices) < threads:
        _fill(made, one, slices, 0, 1)
    else:
        workers = [_pool(threads).submit(_fill, made, one, slices, start, threads) for start in range(threads)]
        for worker in workers:
            worker.result()
    return made


@torch.no_grad()
def _fill(made: Tensor, one: Callable[[slice], Tensor], slices: Sequence[slice], start: int, step: int) -> None:
    for unit in range(start, len(slices), step):
        made[unit] = one(slices[unit])


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Workers of one intra-operation thread each; the caller's own number of threads stays."""
    ready = ThreadPoolExecutor(threads, "clipped-sum", initializer=torch.set_num_threads, initargs=(1,))
    all_there = Barrier(threads)
    for worker in [ready.submit(all_there.wait) for _ in range(threads)]:
        worker.result()
    torch.set_num_threads(threads)
    return ready
