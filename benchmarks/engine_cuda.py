"""Rows of the engine's benchmark that need a GPU: large 3-D segmenters in bfloat16, one to four patches at a time.

python benchmarks/engine_cuda.py OUT.json [--rounds 20]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.nets import DynUNet, SegResNet
from torch import Tensor, nn

from reticent.training import clipped_grad

MEMORY = 20 * 2**30


def _dynunet(residual: bool) -> nn.Module:
    levels = 6
    return DynUNet(
        3, 1, 3, [3] * levels, [1, *[2] * (levels - 1)], [2] * (levels - 1),
        filters=[32, 64, 128, 256, 320, 320], res_block=residual, deep_supervision=True, deep_supr_num=3,
    )  # fmt: skip


MODELS: dict[str, Callable[[], nn.Module]] = {
    "DynUNet, deep supervision": lambda: _dynunet(False),
    "ResEnc-UNet (DynUNet with residual blocks), deep supervision": lambda: _dynunet(True),
    "SegResNet": lambda: SegResNet(3, 32, 1, 3, blocks_down=(1, 2, 2, 4)),
}


def losses(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy of each patch; with deep supervision averaged over its outputs with weights 1, 1/2, 1/4, ..."""
    with torch.autocast("cuda", torch.bfloat16):
        outputs = model(batch["x"])
    outputs = outputs.unbind(1) if outputs.ndim == 6 else (outputs,)
    weights = [0.5**level for level in range(len(outputs))]
    found = [F.cross_entropy(o.float(), batch["y"], reduction="none").flatten(1).mean(1) for o in outputs]
    return sum(w * f for w, f in zip(weights, found, strict=True)) / sum(weights)  # type: ignore[return-value]


def measure(name: str, side: int, size: int, rounds: int) -> dict[str, Any]:
    """Milliseconds and peak gigabytes of ordinary and private steps, taking turns."""
    torch.manual_seed(0)
    model = MODELS[name]().cuda()
    optimiser = torch.optim.SGD(model.parameters(), 1e-4)
    shape = (side,) * 3
    batch = {"x": torch.randn(size, 1, *shape).cuda(), "y": torch.randint(3, (size, *shape)).cuda()}

    def ordinary() -> None:
        optimiser.zero_grad()
        losses(model, batch).mean().backward()
        optimiser.step()

    def private() -> None:
        found = clipped_grad(model, losses, batch, max_norm=1.0, memory=MEMORY)
        for key, p in model.named_parameters():
            p.grad = (found.sum[key].to(p) + torch.randn_like(p)) / size
        optimiser.step()

    result: dict[str, Any] = {"model": name, "patch": side, "batch": size}
    seconds: dict[str, list[float]] = {"ordinary": [], "Reticent": []}
    for turn in range(rounds + 2):
        for engine, step in (("ordinary", ordinary), ("Reticent", private)):
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            began = time.perf_counter()
            step()
            torch.cuda.synchronize()
            if turn > 1:
                seconds[engine].append(time.perf_counter() - began)
            result[f"{engine}, GB"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
    for engine, values in seconds.items():
        result[f"{engine}, ms"] = round(1e3 * statistics.median(values))
    result["ratio"] = round(
        statistics.median(r / o for r, o in zip(seconds["Reticent"], seconds["ordinary"], strict=True)), 3
    )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("skipped: these rows need a CUDA device with 24 GB, and this machine has none")
        return
    found = []
    for name in MODELS:
        for side in (96, 128):
            for size in (1, 2, 4):
                try:
                    found.append(measure(name, side, size, options.rounds))
                except torch.cuda.OutOfMemoryError as error:
                    found.append({"model": name, "patch": side, "batch": size, "out of memory": str(error)[:80]})
                print(json.dumps(found[-1]), flush=True)
                options.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
