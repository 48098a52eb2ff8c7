"""The main job on real data: `reticent train` with default options, repeated, and its held-out metrics.

    .venv/bin/python benchmarks/main_job.py ../shared/data benchmarks/results/main_job.json [part of a job's name]

Every run is a real one: fresh noise from the operating system, its own ledger, no seed. Rows of the result hold
wall-clock seconds (start of the program and decoding included) and the metrics of both held-out splits. Each run on
PneumoniaMNIST is followed by one of the peer (`opacus_peer.py`, from the extra `benchmark`), in the configuration that
its search found best on validation.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scipy import stats

REPEATS = 5
PEER = Path(__file__).with_name("opacus_peer.py")
SEARCHED = Path(__file__).parent / "results" / "opacus_search.json"
PNEUMONIA = ["{data}/medmnist/pneumoniamnist.npz", "--unit", "record", "--delta", "1e-5"]
JOBS: dict[str, tuple[int, list[str]]] = {
    "pneumoniamnist, epsilon 8": (REPEATS, [*PNEUMONIA, "--epsilon", "8"]),
    "pneumoniamnist, epsilon 1": (REPEATS, [*PNEUMONIA, "--epsilon", "1"]),
    "kermany_cxr by patient, epsilon 8": (
        3,
        ["{data}/kermany_cxr/manifest.csv", "--epsilon", "8", "--delta", "1e-4", "--twin"],
    ),
    "adrenalmnist3d, epsilon 8": (
        1,
        ["{data}/medmnist/adrenalmnist3d.npz", "--unit", "record", "--epsilon", "8", "--delta", "1e-4", "--twin"],
    ),
    "msd_hippocampus, epsilon 8": (
        1,
        [
            *("{data}/msd_hippocampus", "--epsilon", "8", "--delta", "1e-3", "--image-size", "32x48x32"),
            *("--sampling-rate", "0.2", "--steps", "150", "--twin"),
        ],
    ),
}


def run(name: str, options: list[str], data: Path, folder: Path) -> dict[str, object]:
    """One training in a fresh process; its metrics from the run folder."""
    out = folder / "run"
    command = [Path(sys.executable).with_name("reticent"), "train", *(o.format(data=data) for o in options)]
    environment = os.environ | {"RETICENT_LEDGER": str(folder / "ledger.sqlite")}
    began = time.perf_counter()
    subprocess.run([*command, "--out", out], check=True, env=environment, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    metrics = json.loads((out / "private" / "metrics.json").read_text())
    privacy = json.loads((out / "release" / "privacy.json").read_text())
    values = {
        part: {s["split"]: {m: v["value"] for m, v in s["metrics"].items()} for s in metrics[part]}
        for part in ("splits", "twin")
    }
    return {
        "job": name,
        "seconds": round(seconds, 1),
        "epsilon": privacy["epsilon"],
        "noise_multiplier": privacy["noise_multiplier"],
        **values,
    }


def run_peer(name: str, options: list[str], data: Path) -> dict[str, object]:
    """The peer at the epsilon of a job, in a fresh process."""
    epsilon = options[options.index("--epsilon") + 1]
    rows = [r for r in json.loads(SEARCHED.read_text()) if r["epsilon"] == epsilon]
    best = max(rows, key=lambda row: row["val"])["options"]
    command = [sys.executable, PEER, data, epsilon, *best]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {"job": f"{name}: Opacus, best found", "options": best, **json.loads(printed), "twin": {}}


def summary(rows: list[dict]) -> str:
    """Markdown table: mean over the runs of a job and its 95 % Student interval."""
    lines = ["| job | runs | metric | val | test | twin, test | seconds |", "|---|---|---|---|---|---|---|"]
    for name in dict.fromkeys(row["job"] for row in rows):
        own = [row for row in rows if row["job"] == name]
        metric = "auroc" if "auroc" in own[0]["splits"]["test"] else "dice"
        val, test = (
            [row["splits"][split].get(metric) for row in own if split in row["splits"]] for split in ("val", "test")
        )
        twin = [row["twin"]["test"][metric] for row in own if row["twin"]]
        times = [row["seconds"] for row in own]
        lines.append(
            f"| {name} | {len(own)} | {metric} | {_mean(val)} | {_mean(test)} | {_mean(twin)} "
            f"| {min(times):.0f} to {max(times):.0f} |"
        )
    return "\n".join(lines)


def _mean(values: list[float]) -> str:
    if len(values) < 2:
        return ", ".join(f"{value:.4f}" for value in values) or "-"
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    middle = statistics.mean(values)
    return f"{middle:.4f} ({middle - half:.4f} to {middle + half:.4f})"


def main() -> None:
    """Run all jobs (or those whose name holds the third argument), one after the other, and save after each."""
    data, result = Path(sys.argv[1]), Path(sys.argv[2])
    wanted = sys.argv[3] if len(sys.argv) > 3 else ""
    rows = json.loads(result.read_text()) if result.exists() else []
    rows = [row for row in rows if wanted not in row["job"]]
    for name, (repeats, options) in JOBS.items():
        for _ in range(repeats if wanted in name else 0):
            with tempfile.TemporaryDirectory() as folder:
                rows.append(run(name, options, data, Path(folder)))
            if "pneumonia" in name:
                rows.append(run_peer(name, options, data))
            result.parent.mkdir(exist_ok=True)
            result.write_text(json.dumps(rows, indent=1) + "\n")
            print(rows[-1]["job"], rows[-1]["seconds"], flush=True)
    print(summary(rows))


if __name__ == "__main__":
    main()
