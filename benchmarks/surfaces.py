"""Numbers from surfaces: fat of generated bodies, parts of the hippocampus; networks, girth ridge and baselines.

    .venv/bin/python benchmarks/surfaces.py ../shared/data benchmarks/results/surfaces.json

Held-out R2 of every target. Bodies: 400 to train, 100 to test, as split in the set; the targets were made from the tape
measures with noise, so that there is a ceiling. Hippocampus: the whole surface is seen, the two parts of its volume are
asked for; 60 of 260 are held out, others in each of three repeats. Networks without privacy see bodies 24 and
hippocampi 80 times. Private: epsilon 8 (ridge also 1) at delta 1e-4. Everything but the linear baselines is trained by
the product; results are kept as they come, and what is there is not made again. About 20 CPU-minutes.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from reticent.data import Cohort
from reticent.records import make_study, write_json
from reticent.training import make_plan, open_study_cohort, train

REPEATS = 3
ONCE = "GraphSAGE, positions alone"
ON_BODIES = (ONCE, "PointNet", "PointNet, epsilon 8")
"""For their cost."""
GIRTHS: dict[str, Any] = {"model": {"name": "ridge"}}
PRIVATE = {"epsilon": 8.0, "delta": 1e-4}
STRICT = {"epsilon": 1.0, "delta": 1e-4}
NETWORK = {"optimiser": "adam", "learning_rate": 0.003, "augment": "none", "ema_decay": 0.9}
PRIVATE_NETWORK = {"learning_rate": 0.01, "augment": "none"}


def methods(expected: float, epochs: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and study of each, for so many training subjects and epochs of networks without privacy."""
    ordinary = {"non_private": True, "sampling_rate": 9 / expected, "steps": round(epochs * expected / 9)}
    private = {**PRIVATE, "sampling_rate": 0.2, "steps": 60}
    yield "girth ridge", {**GIRTHS, "privacy": {"non_private": True}}
    yield "girth ridge, epsilon 8", {**GIRTHS, "privacy": PRIVATE}
    yield "girth ridge, epsilon 1", {**GIRTHS, "privacy": STRICT}
    for title, name, arguments in (
        ("GraphSAGE", "mesh-sage", {}),
        ("GraphSAGE, positions alone", "mesh-sage", {"features": "xyz"}),
        ("PointNet", "pointnet", {}),
    ):
        model = {"name": name, "arguments": arguments}
        yield title, {"model": model, "privacy": ordinary, "training": NETWORK}
        if not arguments:
            yield f"{title}, epsilon 8", {"model": model, "privacy": private, "training": PRIVATE_NETWORK}


def bodies(data: Path) -> dict[str, Any]:
    """Options of the bodies' cohort."""
    return {
        "uri": str(data / "anny_bodies" / "anny_bodies_500.npz"),
        "columns": {"subject": "body_id"},
        "targets": {"vat_cm2": (-100.0, 400.0), "asat_cm2": (0.0, 500.0)},
    }


def hippocampus(data: Path) -> dict[str, Any]:
    """Options of the hippocampus' cohort, in mm and mm³."""
    return {
        "uri": f"surfaces:{data / 'msd_hippocampus'}",
        "targets": {"Anterior": (500.0, 3500.0), "Posterior": (500.0, 3000.0)},
    }


def resplit(cohort: Cohort, repeat: int) -> Cohort:
    """Bodies: what is to validate is trained on too. Hippocampus: 60 drawn to test."""
    entries = list(cohort.entries)
    if entries[0].split is None:
        held_out = set(np.random.default_rng(repeat).permutation(len(entries))[:60].tolist())
        split = ["test" if i in held_out else "train" for i in range(len(entries))]
    else:
        split = ["train" if entry.split == "val" else str(entry.split) for entry in entries]
    return replace(cohort, entries=[replace(e, split=s) for e, s in zip(entries, split, strict=True)])


@cache
def opened(options: str) -> Cohort:
    """A cohort, opened once."""
    return open_study_cohort(make_study({"cohort": json.loads(options), "privacy": PRIVATE}).cohort)


def trained(options: dict[str, Any], study: dict[str, Any], repeat: int) -> dict[str, Any]:
    """Test R2 by target of one training of the product, and its CPU seconds."""
    torch.manual_seed(repeat)
    made = make_study({**study, "cohort": options})
    cohort = resplit(opened(json.dumps(options)), repeat)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        run = train(
            made, cohort, Path(folder) / "run", ledger=Path(folder) / "ledger.sqlite", plan=make_plan(made),
            progress=lambda *_: None,
        )  # fmt: skip
        (split,) = run.metrics().splits
    r2 = {name: split.metrics[f"{name} r2"].value for name in options["targets"]}
    return {"r2": r2, "seconds": round(time.process_time() - began, 1)}


def linear(inputs: np.ndarray, targets: pd.DataFrame, test: np.ndarray) -> dict[str, float]:
    """Test R2 by target of least squares."""
    return {
        name: float(r2_score(y[test], LinearRegression().fit(inputs[~test], y[~test]).predict(inputs[test])))
        for name, y in ((name, targets[name].to_numpy()) for name in targets)
    }


def baselines_of_bodies(data: Path) -> dict[str, dict[str, float]]:
    """Tape measures, and what the noise of the targets leaves to be known."""
    table = pd.read_csv(data / "anny_bodies" / "targets.csv")
    test, targets = (table["split"] == "test").to_numpy(), table[["vat_cm2", "asat_cm2"]]
    table["whr"] = table["waist_cm"] / table["hip_cm"]
    tape = ["waist_cm", "hip_cm", "whr", "waist_depth_cm", "waist_width_cm", "height_m", "male"]
    columns = {"BMI": ["bmi"], "BMI and sex": ["bmi", "male"], "waist and sex": ["waist_cm", "male"], "all tape": tape}
    found = {name: linear(table[own].to_numpy(), targets, test) for name, own in columns.items()}
    ceiling = {name: float(r2_score(table[name][test], table[f"{name[:-4]}_noisefree_cm2"][test])) for name in targets}
    return {**found, "ceiling": ceiling}


def baseline_of_hippocampus(options: dict[str, Any], repeat: int) -> dict[str, float]:
    """The whole volume alone."""
    cohort = resplit(opened(json.dumps(options)), repeat)
    targets = pd.DataFrame([entry.label for entry in cohort.entries], columns=list(options["targets"]))
    test = np.array([entry.split == "test" for entry in cohort.entries])
    return linear(targets.sum(axis=1).to_numpy()[:, None], targets, test)


def jobs(data: Path) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Every result by its name "set / method / repeat", and how it is made."""
    sets = {
        "bodies": (
            bodies(data), (400, 24), {"length": 0.5},
            {"profile": "body", "reference": "ellipsoid:0.18x0.11x0.85"},
        ),
        "hippocampus": (
            hippocampus(data), (200, 80), {"length": 15.0, "faces": 1000},
            {"profile": "y:0.025-0.975/20", "reference": "ellipsoid:10x20x10"},
        ),
    }  # fmt: skip
    yield "bodies / baselines / 0", lambda: baselines_of_bodies(data)
    for repeat in range(REPEATS):
        for name, (options, size, graph, profile) in sets.items():
            if name == "hippocampus":
                yield (
                    f"{name} / volume alone / {repeat}",
                    lambda o=options, r=repeat: {"r2": baseline_of_hippocampus(o, r)},
                )
            for method, study in methods(*size):
                if (name == "hippocampus" and method in ON_BODIES) or (repeat and method == ONCE):
                    continue
                own = options | (profile if study["model"]["name"] == "ridge" else graph)
                yield f"{name} / {method} / {repeat}", lambda o=own, s=study, r=repeat: trained(o, s, r)


def main(data: Path, out: Path) -> None:
    """Make what is missing in the results, and print a table."""
    results: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    for name, make in jobs(data):
        if name not in results:
            results[name] = make()
            write_json(out, results)
            print(name, results[name], flush=True)
    print(table(results))


def table(results: dict[str, Any]) -> str:
    """A Markdown row for every set and method: mean and range of R2 by target, and mean CPU seconds."""
    lines = ["| set | method | R2 | CPU s |", "|---|---|---|---|"]
    for name, values in results["bodies / baselines / 0"].items():
        lines.append(f"| bodies | {name} | " + ", ".join(f"{t} {v:.2f}" for t, v in values.items()) + " | |")
    for name in dict.fromkeys(key.rpartition(" / ")[0] for key in results if "baselines" not in key):
        own = [value for key, value in results.items() if key.rpartition(" / ")[0] == name]
        parts = []
        for target in own[0]["r2"]:
            values = [each["r2"][target] for each in own]
            parts.append(f"{target} {np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})")
        seconds = [each["seconds"] for each in own if "seconds" in each]
        shown = f"{np.mean(seconds):.0f}" if seconds else ""
        lines.append(f"| {name.replace(' / ', ' | ')} | {', '.join(parts)} | {shown} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
