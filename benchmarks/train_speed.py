"""Seconds per step of `reticent train` in two checkouts of this project, in turns.

    python benchmarks/train_speed.py DATA EARLIER OUT.json [--rounds 3] [--only NAME ...]

DATA is the folder of test data, EARLIER a checkout of an earlier commit. A step's seconds are the difference between a
long and a short run of the command, by the difference of their steps: start, decoding and report cancel.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

JOBS = {
    "PneumoniaMNIST": ("medmnist/pneumoniamnist.npz", ("--unit", "record"), (5, 35)),
    "Kermany X-rays": ("kermany_cxr/manifest.csv", (), (5, 35)),
    "AdrenalMNIST3D": ("medmnist/adrenalmnist3d.npz", ("--unit", "record"), (2, 8)),
    "MSD hippocampus, 3-D": ("msd_hippocampus", ("--image-size", "32x48x32"), (2, 8)),
}
"""Cohort, options, and the steps of a short and a long run."""


def seconds(checkout: Path, cohort: Path, options: tuple[str, ...], steps: int) -> float:
    """Wall-clock time of one run with an own ledger."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-c", "from reticent.cli import main; main()", "train", str(cohort), *options,
            "--noise-multiplier", "1", "--steps", str(steps), "--out", f"{folder}/run",
            "--ledger", f"{folder}/ledger.db",
        ]  # fmt: skip
        began = time.perf_counter()
        subprocess.run(
            command, env={**os.environ, "PYTHONPATH": str(checkout / "src")}, check=True, capture_output=True
        )
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("earlier", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=sorted(JOBS), default=list(JOBS))
    options = parser.parse_args()
    checkouts = {"earlier": options.earlier.resolve(), "now": Path(__file__).resolve().parents[1]}
    results = {}
    for name in options.only:
        cohort, arguments, (short, long) = JOBS[name]
        steps: dict[str, list[float]] = {key: [] for key in checkouts}
        for _ in range(options.rounds):
            for key, checkout in checkouts.items():
                both = [seconds(checkout, options.data.resolve() / cohort, arguments, n) for n in (short, long)]
                steps[key].append((both[1] - both[0]) / (long - short))
        factors = [a / b for a, b in zip(*steps.values(), strict=True)]
        results[name] = {
            "seconds per step": {key: [round(s, 3) for s in values] for key, values in steps.items()},
            "factor": round(statistics.median(factors), 2),
            "lowest": round(min(factors), 2),
            "highest": round(max(factors), 2),
        }
        print(name, json.dumps(results[name]), flush=True)
        options.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
