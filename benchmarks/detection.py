"""Boxes of blood cells with and without privacy: average precision, counts, and what the counting area does not see.

    .venv/bin/python benchmarks/detection.py ../shared/data benchmarks/results/detection.json [--seeds 3]

BCCD (364 photographs of blood smears; its own image sets: 205 train, 72 test) has no patient identifiers: the unit
is the image, and the guarantee is weaker than one for patients. Every row is a run of `reticent train` with its own
noise. Finished rows of OUT are kept: the same command goes on. `--table` prints OUT's tables and measures nothing.
Options are fixed beforehand on the validation images; the test images are read once a run. About 10 CPU-minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from scipy import stats

from reticent.data import open_cohort
from reticent.records import RunFolder, write_json
from reticent.training import Predictor, counting_curve
from reticent.training.tasks import annotated_objects

PLAIN = ["--non-private", "--sampling-rate", "0.05", "--learning-rate", "0.002"]
JOBS = {
    "no privacy, 2.5 epochs": [*PLAIN, "--steps", "50"],
    "no privacy, 20 epochs": [*PLAIN, "--steps", "400"],
    "epsilon 8 by image, default options": ["--epsilon", "8", "--delta", "1e-3"],
}
COLUMNS = {
    "map": "mAP .5:.95", "ap50": "mAP .5", "counting_area": "counting area", "published": "as published",
    "count_error": "count error", "exactly_right": "counted exactly",
}  # fmt: skip


def measure(options: list[str], data: Path) -> dict[str, Any]:
    """One run in a fresh process, and its metrics on the test images."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        environment = os.environ | {"RETICENT_LEDGER": str(Path(folder) / "ledger.sqlite")}
        command = [sys.executable, "-m", "reticent", "train", data, "--unit", "record", *options, "--out", out]
        began = cpu_seconds()
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds, run = cpu_seconds() - began, RunFolder.open(out)
        test = next(split for split in run.metrics().splits if split.split == "test")
        values = {name: measured.value for name, measured in test.metrics.items()}
        values["published"] = published_area(run, data)
        classes = {g.name: {name: m.value for name, m in g.metrics.items()} for g in test.groups if g.kind == "class"}
        statement = run.statement()
        return {
            "cpu_seconds": round(seconds, 1), "epsilon": None if statement.noise_multiplier is None else 8.0,
            "noise_multiplier": statement.noise_multiplier, "test": values, "classes": classes,
        }  # fmt: skip


def cpu_seconds() -> float:
    """Of the processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def published_area(run: RunFolder, data: Path) -> float:
    """The counting area of the test images as its authors integrate it."""
    cohort, predictor = open_cohort(str(data), unit="record", hashed=False), Predictor(run)
    records = [cohort.load(i) for i, entry in enumerate(cohort.entries) if entry.split == "test"]
    found = [predictor.objects(record.inputs) for record in records]
    truth = [annotated_objects(record.targets) for record in records]
    return counting_curve(found, truth, len(cohort.classes), start_at_zero=False).area


def tables(rows: list[dict[str, Any]]) -> str:
    """Markdown: means over the runs of a job with 95 % Student intervals, then AP at IoU 0.5 by class."""
    classes = list(rows[0]["classes"])
    head = ["training", "runs", *COLUMNS.values(), "CPU-seconds"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    more = ["", f"| AP at IoU 0.5 | {' | '.join(classes)} |", "|---" * (len(classes) + 1) + "|"]
    for job in JOBS:
        own = [row for row in rows if row["job"] == job]
        if own:
            cells = [interval([row["test"][name] for row in own]) for name in COLUMNS]
            times = [row["cpu_seconds"] for row in own]
            lines.append(f"| {job} | {len(own)} | {' | '.join(cells)} | {min(times):.0f} to {max(times):.0f} |")
            cells = [interval([row["classes"][name]["ap50"] for row in own]) for name in classes]
            more.append(f"| {job} | {' | '.join(cells)} |")
    return "\n".join([*lines, *more])


def interval(values: list[float]) -> str:
    """Mean with the 95 % Student interval over runs."""
    middle = statistics.mean(values)
    if len(values) < 2:
        return f"{middle:.3f}"
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{middle:.3f} ({middle - half:.3f} to {middle + half:.3f})"


def main() -> None:
    """Run what is missing of OUT, saving after every run, and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(given.out.read_text()) if given.out.exists() else []
    for number in range(0 if given.table else given.seeds):
        for job, options in JOBS.items():
            if not any(row["job"] == job and row["run"] == number for row in rows):
                rows.append({"job": job, "run": number, **measure(options, given.data / "bccd_detection")})
                write_json(given.out, rows)
                print(job, number, rows[-1]["test"], flush=True)
    print(tables(rows))


if __name__ == "__main__":
    main()
