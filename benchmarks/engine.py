"""Step time and memory of the clipped-sum engine beside ordinary training, Opacus and vmap.

    python benchmarks/engine.py OUT.json [--rounds 20] [--threads 1] [--only NAME ...] [--allocator default]

Every step is complete: gradients, clipping to norm 1, noise, SGD. Engines take turns in one process; times are
process time on one thread, wall time on several. The process keeps the memory that it frees: on a virtual machine pages
given back and taken again cost as much as the arithmetic; `--allocator default` shows that. Memory is the growth of the
high-water mark over two steps of a fresh process with the allocator's defaults.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from engine_models import MODELS, losses, make
from reticent.training import clipped_grad

PEER_EVERY = 7
TABLE = [
    *((name, 64) for name in ("ResNet-9", "WRN-16-4", "ViT", "3-D CNN", "MONAI 3-D BasicUNet", "MONAI 3-D SegResNet")),
    *(("ResNet-9", 256), ("3-D CNN", 256)),
    *(("ResNet-9", 16), ("ResNet-9, half width", 64), ("WRN-10-4", 64), ("WRN-22-4", 64)),
]
FEW_ROUNDS = TABLE[8:]
BOTH_FORMATS = ("ResNet-9", "WRN-16-4", "3-D CNN")
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
"""Read by the C library before the program starts."""
Step = Callable[[], None]


def ordinary(name: str, size: int, *, last: bool = False) -> Step:
    """One step of SGD without privacy."""
    model, batch = _formatted(*make(name, size), last)
    optimiser = torch.optim.SGD(model.parameters(), 1e-4)

    def step() -> None:
        optimiser.zero_grad()
        losses(model, batch).mean().backward()
        optimiser.step()

    return step


def reticent(name: str, size: int, *, last: bool = False) -> Step:
    """One private step with this project's engine, at its default memory of 1 GiB."""
    model, batch = _formatted(*make(name, size), last)
    optimiser = torch.optim.SGD(model.parameters(), 1e-4)

    def step() -> None:
        found = clipped_grad(model, losses, batch, max_norm=1.0)
        for name, parameter in model.named_parameters():
            parameter.grad = (found.sum[name].to(parameter) + torch.randn(parameter.shape)) / size
        optimiser.step()

    return step


def chunked_vmap(name: str, size: int, chunk: int = 16) -> Step:
    """`vmap(grad)` over chunks of the batch."""
    model, batch = make(name, size)
    params = {key: p.detach() for key, p in model.named_parameters()}
    optimiser = torch.optim.SGD(model.parameters(), 1e-4)

    def loss(params: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return losses(lambda image: functional_call(model, params, (image,)), {"x": x[None], "y": y[None]})[0]  # type: ignore[arg-type]

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))

    def step() -> None:
        total = {key: torch.zeros_like(p) for key, p in params.items()}
        for start in range(0, size, chunk):
            rows = slice(start, start + chunk)
            found = gradients(params, batch["x"][rows], batch["y"][rows])
            norms = torch.stack([g.flatten(1).norm(dim=1) for g in found.values()]).norm(dim=0)
            factors = (1 / norms).clamp(max=1)
            for key, g in found.items():
                total[key] += torch.tensordot(factors, g, 1)
        for key, parameter in model.named_parameters():
            parameter.grad = (total[key] + torch.randn_like(parameter)) / size
        optimiser.step()

    return step


def opacus(mode: str, name: str, size: int) -> Step:
    """One private step with Opacus in one of its modes."""
    from opacus import PrivacyEngine

    model, batch = make(name, size)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(batch["x"], batch["y"]), batch_size=size)
    made = PrivacyEngine(accountant="rdp").make_private(
        module=model, optimizer=torch.optim.SGD(model.parameters(), 1e-4), data_loader=loader, noise_multiplier=1.0,
        max_grad_norm=1.0, poisson_sampling=False, grad_sample_mode=mode, criterion=nn.CrossEntropyLoss(),
    )  # fmt: skip
    private, optimiser, criterion = (
        (made[0], made[1], made[2]) if mode == "ghost" else (*made[:2], nn.CrossEntropyLoss())
    )

    def step() -> None:
        optimiser.zero_grad()
        criterion(private(batch["x"]), batch["y"]).backward()
        optimiser.step()

    return step


ENGINES: dict[str, Callable[[str, int], Step]] = {
    "ordinary": ordinary,
    "ordinary, channels-last": lambda name, size: ordinary(name, size, last=True),
    "Reticent": reticent,
    "Reticent, channels-last": lambda name, size: reticent(name, size, last=True),
}
PEERS: dict[str, Callable[[str, int], Step]] = {
    **{f"Opacus {m}": lambda name, size, m=m: opacus(m, name, size) for m in ("hooks", "functorch", "ghost")},
    "vmap, chunks of 16": chunked_vmap,
}


def _formatted(
    model: nn.Module, batch: dict[str, torch.Tensor], last: bool
) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    if not last:
        return model, batch
    memory_format = FORMATS[batch["x"].ndim]
    batch["x"] = batch["x"].contiguous(memory_format=memory_format)
    return model.to(memory_format=memory_format), batch


def measure(name: str, size: int, rounds: int) -> dict[str, Any]:
    """Median milliseconds and ratio to ordinary training in the same round, with the middle 80 % of rounds."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    full = size == 64 and (name, size) not in FEW_ROUNDS
    chosen = {key: build for key, build in ENGINES.items() if "last" not in key or (full and name in BOTH_FORMATS)}
    steps, refused = {}, {}
    for engine, build in {**chosen, **(PEERS if full else {})}.items():
        try:
            steps[engine] = build(name, size)
            steps[engine]()
            steps[engine]()
        except Exception as error:  # whatever a peer raises is its result
            steps.pop(engine, None)
            refused[engine] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    seconds: dict[str, list[float]] = {engine: [] for engine in steps}
    ratios: dict[str, list[float]] = {engine: [] for engine in steps}
    for turn in range(rounds):
        for engine, step in steps.items():
            if engine in PEERS and turn % PEER_EVERY:
                continue
            began = clock()
            step()
            seconds[engine].append(clock() - began)
            ratios[engine].append(seconds[engine][-1] / seconds["ordinary"][turn])
    found = {
        engine: {
            "ms": round(1e3 * statistics.median(values)),
            "ratio": round(statistics.median(ratios[engine]), 3),
            "low": round(_quantile(ratios[engine], 0.1), 3),
            "high": round(_quantile(ratios[engine], 0.9), 3),
            "rounds": len(values),
        }
        for engine, values in seconds.items()
    }
    return {"model": name, "batch": size, "engines": found, "refused": refused}


def _quantile(values: list[float], level: float) -> float:
    return sorted(values)[round(level * (len(values) - 1))]


def peak(engine: str, name: str, size: int) -> float:
    """Growth of the high-water mark over two steps, in MB; to be called in a fresh process."""
    torch.set_num_threads(1)
    step = {**ENGINES, **PEERS}[engine](name, size)
    before = _high_water()
    step()
    step()
    return (_high_water() - before) / 1024


def _high_water() -> int:
    """Most memory that this program has held, in kB (`getrusage` also counts what ran before it in the process)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def peaks(name: str, size: int) -> dict[str, float]:
    """Peak of every engine, each in a process of its own."""
    found = {}
    plain = {key: value for key, value in os.environ.items() if key not in KEEP_MEMORY}
    for engine in ("ordinary", "Reticent", "Opacus hooks", "Opacus ghost", "vmap, chunks of 16"):
        command = [sys.executable, __file__, "--peak", engine, name, str(size)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=plain)
        if done.returncode == 0:
            found[engine] = round(float(done.stdout.split()[-1]))
    return found


def main() -> None:
    if sys.argv[1:2] == ["--peak"]:
        print(peak(sys.argv[2], sys.argv[3], int(sys.argv[4])))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=sorted(MODELS))
    parser.add_argument("--allocator", choices=("keeping", "default"), default="keeping")
    options = parser.parse_args()
    if options.allocator == "keeping" and not KEEP_MEMORY.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEEP_MEMORY})
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    chosen = [row for row in TABLE if not options.only or row[0] in options.only]
    results: dict[str, Any] = {
        "threads": options.threads, "torch": torch.__version__, "allocator": options.allocator, "times": [],
        "memory": [],
    }  # fmt: skip
    for name, size in chosen:
        rounds = max(1, options.rounds // (4 if (name, size) in FEW_ROUNDS else 2 if size > 64 else 1))
        results["times"].append(measure(name, size, rounds))
        print(json.dumps(results["times"][-1]), flush=True)
        options.out.write_text(json.dumps(results, indent=1))
    for name, size in (("ResNet-9", 64), ("ResNet-9", 256), ("3-D CNN", 64), ("3-D CNN", 256)):
        if options.threads == 1 and options.allocator == "keeping" and (name, size) in chosen:
            results["memory"].append({"model": name, "batch": size, "mb": peaks(name, size)})
            print(json.dumps(results["memory"][-1]), flush=True)
            options.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
