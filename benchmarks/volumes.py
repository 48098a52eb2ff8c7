"""Volumes: by their slices or in 3-D, which slices decide, and segmentation by patches; private and not.

    .venv/bin/python benchmarks/volumes.py ../shared/data benchmarks/results/volumes.json [--only PART …] [--seeds N]

| part | what is measured | CPU-minutes for three seeds |
|---|---|---|
| adrenal28, adrenal64 | test AUROC on AdrenalMNIST3D: attention over slices, their mean, a 3-D network | 46, 160 |
| masks | hippocampus volumes: do contributions of slices, attention and HiResCAM agree with the masks? | 6 |
| patches | Dice of hippocampus volumes: patches or whole volumes resized, private and their twins | 130 |

Finished cells are kept in OUT: the same command goes on. `--table` prints OUT's tables and measures nothing. Options
are fixed beforehand: nothing is chosen by a result. AdrenalMNIST3D has no patient identifiers (unit: record).
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from reticent.data import Preprocessing, Record, open_cohort
from reticent.governance import Ledger
from reticent.records import RunFolder, make_study, put_over, read_json, write_json
from reticent.training import Predictor, PreparedCohort, make_plan, train

NETWORKS: dict[str, dict[str, Any]] = {
    "slices, attention": {"model": {"name": "slices"}},
    "slices, mean": {"model": {"name": "slices", "arguments": {"pool": "mean"}}},
    "3-D network": {},
}
TARGETS: dict[str, dict[str, Any]] = {
    "no privacy": {"privacy": {"non_private": True}, "training": {"learning_rate": 0.002}},
    "epsilon 8": {"privacy": {"epsilon": 8.0, "delta": 1e-4}},
}
STEPS = {"adrenal28": {"steps": 150, "sampling_rate": 0.08}, "adrenal64": {"steps": 50, "sampling_rate": 0.05}}
LARGE = 3300
"""Voxels of 1 mm from which a hippocampus is called large, declared: near the mean of published volumes."""
PATCHES: dict[str, dict[str, Any]] = {
    "patches of 32 x 32 x 32": {"cohort": {"patch_size": (32,)}},
    "resized to 32 x 32 x 32": {"cohort": {"image_size": (32,)}},
}
SEGMENT: dict[str, Any] = {
    "privacy": {"epsilon": 8.0, "delta": 1e-3, "steps": 100, "sampling_rate": 0.2},
    "training": {"twin": True},
}
BY_SIZE: dict[str, Any] = {
    "cohort": {"image_size": (32, 48, 32), "spacing": (1.0,)},
    "privacy": {"non_private": True, "steps": 200, "sampling_rate": 0.15},
    "model": {"name": "slices"},
    "training": {"learning_rate": 0.002},
}
Cell = dict[str, Any]


def run_of(uri: str, work: Path, *options: Mapping[str, Any], unit: str = "subject") -> tuple[RunFolder, float]:
    """A finished run of the product, and its CPU-seconds."""
    values: dict[str, Any] = {"cohort": {"uri": uri, "unit": unit}}
    for part in options:
        values = put_over(values, part)
    study = make_study(values)
    cohort = open_cohort(uri, unit=study.cohort.unit)
    began = time.process_time()
    folder = train(
        study, cohort, Path(tempfile.mkdtemp(dir=work)) / "run", ledger=work / "ledger.sqlite",
        plan=make_plan(study, len(cohort.classes)), progress=lambda *_: None,
    )  # fmt: skip
    return folder, time.process_time() - began


def adrenal(data: Path, work: Path, part: str) -> Iterator[tuple[str, Any]]:
    """Cells of the comparison at one size: name, and what measures it."""
    side = part.removeprefix("adrenal")
    archive = data / "medmnist" / f"adrenalmnist3d{'' if side == '28' else '_64'}.npz"
    size = {"cohort": {"image_size": (int(side),)}, "privacy": STEPS[part]}
    for target, privacy in TARGETS.items():
        for network, model in NETWORKS.items():

            def measure(privacy: Any = privacy, model: Any = model) -> Cell:
                folder, seconds = run_of(str(archive), work, size, privacy, model, unit="record")
                test = folder.metrics().splits[-1].metrics
                return {"auroc": test["auroc"].value, "matthews": test["matthews"].value, "seconds": seconds}

            yield f"{network}, {target}", measure


def by_size(data: Path, work: Path) -> Path:
    """A manifest of the hippocampus volumes labelled by the declared size of their masks."""
    root, rows = data / "msd_hippocampus", ["file,patient,label"]
    for path in sorted((root / "imagesTr").glob("hippocampus_*.nii.gz")):
        voxels = int((np.asarray(nibabel.load(root / "labelsTr" / path.name).dataobj) > 0).sum())
        rows.append(f"{path},{path.name.split('.')[0]},{'large' if voxels >= LARGE else 'small'}")
    (work / "by_size.csv").write_text("\n".join(rows) + "\n")
    return work / "by_size.csv"


def masks(data: Path, work: Path, part: str) -> Iterator[tuple[str, Any]]:
    """Agreement of what explains a prediction with where the organ is, over the test volumes of a run."""

    def measure() -> Cell:
        manifest = str(by_size(data, work))
        folder, seconds = run_of(manifest, work, BY_SIZE)
        predictor, cohort, found = Predictor(folder), open_cohort(manifest), list[dict[str, float]]()
        drawn = open_cohort(str(data / "msd_hippocampus"))
        organs = {entry.subject: i for i, entry in enumerate(drawn.entries)}
        with Ledger.open(work / "ledger.sqlite") as site:
            splits = PreparedCohort(cohort, folder.study(), site.derive_key("split")).splits
        for i, (entry, split) in enumerate(zip(cohort.entries, splits, strict=True)):
            if split == "test":
                record = cohort.load(i)
                organ = drawn.load(organs[entry.subject]).targets["mask"] > 0
                _, explanation = predictor.explained(record.inputs, record.spacing)
                found.append(explanation.agreement_with(on_grid(organ, record)))
        agreed = {name: [each[name] for each in found] for name in found[0]}
        return {"auroc": folder.metrics().splits[-1].metrics["auroc"].value, "seconds": seconds, **agreed}

    yield "hippocampus by size", measure


def on_grid(organ: np.ndarray, record: Record) -> np.ndarray:
    """The mask as the network would see it."""
    seen = Preprocessing((32, 48, 32), spacing=(1.0,)).apply(replace(record, targets={"mask": organ.astype(np.int64)}))
    return seen.targets["mask"]


def patches(data: Path, work: Path, part: str, picture: Path | None = None) -> Iterator[tuple[str, Any]]:
    """Dice of hippocampus segmentation, private and of the non-private twin."""
    for name, options in PATCHES.items():

        def measure(options: Any = options) -> Cell:
            folder, seconds = run_of(str(data / "msd_hippocampus"), work, SEGMENT, options)
            metrics = folder.metrics()
            if picture is not None and "patch_size" in options["cohort"]:
                draw(folder, work, data, picture)
            return {
                "dice": metrics.splits[-1].metrics["dice"].value,
                "twin": metrics.twin[-1].metrics["dice"].value,
                "hd95": metrics.splits[-1].metrics["hd95"].value,
                "twin hd95": metrics.twin[-1].metrics["hd95"].value,
                "seconds": seconds,
            }

        yield name, measure


def draw(folder: RunFolder, work: Path, data: Path, path: Path) -> None:
    """The middle slices of the first test volume along each axis: drawn by hand, and by the private network."""
    from matplotlib.figure import Figure

    cohort = open_cohort(str(data / "msd_hippocampus"))
    with Ledger.open(work / "ledger.sqlite") as site:
        splits = PreparedCohort(cohort, folder.study(), site.derive_key("split")).splits
    record = cohort.load(splits.index("test"))
    drawn, found = record.targets["mask"], Predictor(folder).mask(record.inputs, record.spacing)
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    for axis, column in enumerate(figure.subplots(2, 3).T):
        middle = int(np.argmax((drawn > 0).sum(tuple(k for k in range(3) if k != axis))))
        image, *masks = (np.rot90(np.take(x, middle, axis)) for x in (record.inputs["image"][0], drawn, found))
        for panel, mask, title in zip(column, masks, ("by hand", "private, epsilon 8"), strict=True):
            panel.imshow(image, cmap="gray")
            panel.imshow(
                np.ma.masked_equal(mask, 0), cmap="tab10", vmin=1, vmax=10, alpha=0.55, interpolation="nearest"
            )
            panel.set_axis_off()
            panel.set_title(title, fontsize=8)
    figure.savefig(path, dpi=90)


PARTS: dict[str, Any] = {"adrenal28": adrenal, "masks": masks, "patches": patches, "adrenal64": adrenal}


def table(results: Mapping[str, Mapping[str, list[Cell]]]) -> None:
    """Means over seeds and the range; of agreements the mean over volumes with its bootstrap interval."""
    for part, cells in results.items():
        print(f"\n{part}\n")
        for name, runs in cells.items():
            columns = []
            for key, first in runs[0].items():
                if isinstance(first, list):
                    values = np.array([v for run in runs for v in run[key] if not np.isnan(v)])
                    drawn = np.random.default_rng(0).choice(values, (2000, len(values))).mean(1)
                    low, high = np.quantile(drawn, [0.025, 0.975])
                    columns.append(f"{key} {values.mean():.3f} ({low:.3f} to {high:.3f})")
                elif known := [run[key] for run in runs if run[key] is not None]:
                    columns.append(f"{key} {np.mean(known):.3f} ({min(known):.3f} to {max(known):.3f})")
            print(f"| {name} | {len(runs)} | " + " | ".join(columns) + " |")


def main() -> None:
    """Measure what is missing, and write after each cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--picture", type=Path, help="PNG of a private segmentation (of the first seed)")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    results: dict[str, dict[str, list[Cell]]] = read_json(given.out) if given.out.is_file() else {}
    if given.table:
        table(results)
        return
    warnings.simplefilter("ignore")
    for seed in range(given.seeds):
        for part in given.only:
            with tempfile.TemporaryDirectory() as folder:
                own = {"picture": given.picture} if part == "patches" and seed == 0 else {}
                for name, measure in PARTS[part](given.data.resolve(), Path(folder), part, **own):
                    done = results.setdefault(part, {}).setdefault(name, [])
                    if len(done) <= seed:
                        torch.manual_seed(seed)
                        done.append(measure())
                        write_json(given.out, results)
                        print(part, name, {k: v for k, v in done[-1].items() if not isinstance(v, list)}, flush=True)


if __name__ == "__main__":
    main()
