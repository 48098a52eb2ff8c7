"""The methods of private learning beside each other on real data, at one guarantee a data set.

    .venv/bin/python benchmarks/methods.py ../shared/data benchmarks/results/methods.json [--only NAME ...] [--jobs 2]

Every method gets the same search: three values of its learning rate (Langevin: of its temperature), one run each, the
best on the validation patients. The chosen value is run REPEATS times anew, and the table is the test split of those
runs, read once: mean and 95 % interval of Student, difference from the first method and interval of Welch. Each run is
an ordinary one of `reticent sweep`, with its own noise. What was done is kept beside OUT and goes on if interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
from PIL import Image

from reticent.records import make_sweep
from reticent.training import run_sweep, summary

REPEATS = 3
RATES = [3e-3, 1e-2, 3e-2]
SLICES = 6
Variant = dict[str, Any]

RESNET: Variant = {"model": {"name": "resnet9", "arguments": {"width": 16, "scale_norm": False}}}
METHODS: dict[str, Variant] = {
    "ResNet-9, GroupNorm": RESNET,
    "ResNet-9, ScaleNorm": {"model": {"name": "resnet9", "arguments": {"width": 16, "scale_norm": True}}},
    "ResNet-9, bias-aware 0.02": {**RESNET, "training": {"bias_aware": 0.02}},
    "SmoothNet W10D10": {"model": {"name": "smoothnet", "arguments": {"width": 1.0, "depth": 1.0}}},
    "default network": {},
    "default, no moving average": {"training": {"ema_decay": 0.0}},
    "default, 4 views": {"training": {"views": 4}},
    "default, automatic clipping": {"training": {"clipping": "automatic"}},
    "default, Langevin": {"training": {"optimiser": "langevin"}, "grid": {"training.temperature": [0.01, 0.05, 0.2]}},
}
KSPACE: dict[str, Variant] = {
    "complex, k-space": {"model": {"name": "complex"}},
    "complex, image": {"model": {"name": "complex", "arguments": {"domain": "image"}}},
    "default network": {},
}


def medmnist(data: Path, _: Path) -> dict[str, Any]:
    """PneumoniaMNIST: records, for there are no patients in it."""
    return {"uri": str(data / "medmnist" / "pneumoniamnist.npz"), "unit": "record"}


def kermany(data: Path, _: Path) -> dict[str, Any]:
    """Chest X-rays by patient, at 32 x 32: at 64 x 64 all methods come too close to 1."""
    return {"uri": str(data / "kermany_cxr" / "manifest.csv"), "image_size": [32]}


def cifar(data: Path, folder: Path) -> dict[str, Any]:
    """CIFAR-10 subset: 1,000 images a class, of which every tenth is for validation."""
    made = folder / "cifar10"
    if not (made / "manifest.csv").exists():
        (archive,) = (data / "cifar10_subset").glob("*.zip")
        with zipfile.ZipFile(archive) as stored:
            stored.extractall(made / "images")
        images = sorted((made / "images").rglob("*.jpg"))
        rows = [
            (path.relative_to(made / "images"), path.parent.name,
             "test" if "test" in path.parts else "val" if k % 10 == 0 else "train")
            for k, path in enumerate(images)
        ]  # fmt: skip
        pd.DataFrame(rows, columns=["file", "label", "split"]).to_csv(made / "manifest.csv", index=False)
    return {"uri": str(made / "manifest.csv"), "unit": "record"}


def hippocampus_slices(data: Path, folder: Path) -> dict[str, Any]:
    """Slices of MR volumes by patient, 32 x 32: does the hippocampus's anterior part lie in the slice?"""
    made = folder / "slices"
    if not (made / "manifest.csv").exists():
        (made / "images").mkdir(parents=True, exist_ok=True)
        pd.DataFrame(_slices(data / "msd_hippocampus", made / "images")).to_csv(made / "manifest.csv", index=False)
    return {"uri": str(made / "manifest.csv"), "image_size": [32]}


def _slices(volumes: Path, folder: Path) -> Iterator[Mapping[str, str]]:
    for number, path in enumerate(sorted((volumes / "imagesTr").glob("*.nii.gz"))):
        image = np.asarray(nibabel.load(path).dataobj, dtype=np.float64)
        mask = np.asarray(nibabel.load(volumes / "labelsTr" / path.name).dataobj)
        low, high = np.percentile(image, [1, 99])
        split = ("test", "val")[number % 5 - 3] if number % 5 > 2 else "train"
        for place in np.linspace(4, image.shape[1] - 5, SLICES).round().astype(int):
            name = f"{path.name.removesuffix('.nii.gz')}_{place}.png"
            grey = (255 * ((image[:, place] - low) / (high - low)).clip(0, 1)).astype(np.uint8)
            Image.fromarray(grey).save(folder / name)
            label = "anterior" if (mask[:, place] == 1).any() else "none"
            yield {"file": name, "subject": path.name, "label": label, "split": split}


Source = Callable[[Path, Path], dict[str, Any]]
SETS: dict[str, tuple[Source, dict[str, Any], dict[str, Variant]]] = {
    "kermany": (kermany, {"epsilon": 8.0, "delta": 1e-4}, METHODS),
    "pneumoniamnist": (medmnist, {"epsilon": 8.0, "delta": 1e-5}, METHODS),
    "cifar10": (cifar, {"epsilon": 8.0, "delta": 1e-5}, METHODS),
    "hippocampus slices": (hippocampus_slices, {"epsilon": 8.0, "delta": 1e-3}, KSPACE),
}


def measure(name: str, data: Path, folder: Path, jobs: int) -> dict[str, Any]:
    """Search, choose, repeat; the rows of both sweeps and the table of the second."""
    source, privacy, methods = SETS[name]
    base = {"cohort": source(data, folder), "privacy": privacy}
    variants = {key: {"grid": {"training.learning_rate": RATES}, **variant} for key, variant in methods.items()}
    searched = _sweep({**base, "sweep": {"variants": variants}}, folder / f"{name} search", jobs, 1)
    best = searched[searched["split"] == "val"].sort_values("auroc").groupby("variant").last()
    chosen = {}
    for key, variant in variants.items():
        ((path, values),) = variant["grid"].items()
        value = next(v for v in values if v == best.loc[key, path])
        chosen[key] = {**variant, "grid": {path: [value]}}
    final = _sweep({**base, "sweep": {"variants": chosen}}, folder / f"{name} final", jobs, REPEATS)
    tables = {
        metric: json.loads(summary(final, "test", metric).to_json(orient="records"))
        for metric in ("auroc", "balanced_accuracy", "brier", "calibration_error")
    }
    rows = {key: json.loads(frame.to_json(orient="records")) for key, frame in (("search", searched), ("final", final))}
    return {"set": name, "privacy": privacy, "tables": tables, **rows}


def _sweep(values: Mapping[str, Any], out: Path, jobs: int, repeats: int) -> pd.DataFrame:
    def show(done: int, total: int) -> None:
        print(f"{out.name}: {done} of {total}", flush=True)

    sweep = make_sweep(values, "methods.py", {}, repeats)
    ledger = out.parent / "ledger.sqlite"
    return run_sweep(sweep, out, ledger=ledger, jobs=jobs, backend="loky", progress=show)


def main() -> None:
    """Measure the chosen sets and write after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", choices=sorted(SETS), default=list(SETS))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    folder = options.out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    found = json.loads(options.out.read_text()) if options.out.exists() else []
    for name in options.only:
        row = measure(name, options.data, folder, options.jobs)
        found = [old for old in found if old["set"] != name] + [row]
        options.out.write_text(json.dumps(found, indent=1) + "\n")
        print(pd.DataFrame(row["tables"]["auroc"]).to_string(), flush=True)


if __name__ == "__main__":
    main()
