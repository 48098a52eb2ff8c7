"""Small per-unit kernels, spread over threads by unit: a library would spread the inside of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from threading import Barrier

import torch
from torch import Tensor

from reticent.training.engine.units import Units
from reticent.training.engine.workspace import CHUNK_BYTES

Fill = Callable[[Tensor, Tensor, Tensor], object]
"""Writes into the first tensor what it makes of one unit's rows, the two others."""


def for_each_unit(fill: Fill, x: Tensor, g: Tensor, units: Units, made: Tensor) -> Iterator[Tensor]:
    """Fill `made` (units, ...) from every unit's rows of `x` and `g`, and yield some units of it at a time."""
    threads = torch.get_num_threads() if made.device.type == "cpu" else 1
    few = max(threads, CHUNK_BYTES // made[0].nbytes)
    factors = list(zip(made.unbind(), x.split(units.counts), g.split(units.counts), strict=True))
    for start in range(0, len(units), few):
        some = factors[start : start + few]
        if threads == 1 or len(some) < threads:
            _run(fill, some)
        else:
            pool = _pool(threads)
            workers = [pool.submit(_run, fill, some[first::threads]) for first in range(1, threads)]
            with _one_thread():
                _run(fill, some[::threads])
            for worker in workers:
                worker.result()
        yield made[start : start + few]


@torch.no_grad()
def _run(fill: Fill, factors: Sequence[tuple[Tensor, Tensor, Tensor]]) -> None:
    for into, x, g in factors:
        fill(into, x, g)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Within, the caller's libraries use one thread, as the workers' do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Workers of one intra-operation thread each, one less than the caller has; its own number stays."""
    ready = ThreadPoolExecutor(threads - 1, "clipped-sum", initializer=torch.set_num_threads, initargs=(1,))
    all_there = Barrier(threads - 1)
    for worker in [ready.submit(all_there.wait) for _ in range(threads - 1)]:
        worker.result()
    torch.set_num_threads(threads)
    return ready
