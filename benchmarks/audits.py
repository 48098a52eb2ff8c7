"""Strength of membership attacks on an over-fitted classifier, and on a private one beside its bound.

    .venv/bin/python benchmarks/audits.py ../shared/data benchmarks/results/audits.json

BreastMNIST by record: its 780 images, of which `train` is 546. Without privacy, every reference model (trained by the
product on a half) is in turn the target, and the others but its complement are the references: what is measured is the
mean over targets, on 390 members and 390 others each; once more with a tenth of the labels wrong. Under privacy the
run itself is the target. About 5 CPU-minutes.

`by_heart`: 1,000 images of PneumoniaMNIST with a tenth of the labels wrong, learnt by heart, 20 CPU-minutes. Parts
named behind OUT are measured alone; the others stay.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from reticent.attacks import ATTACKS, AttackOptions, LoadedRun, auc, found_at
from reticent.attacks.membership.likelihood_ratio import calibrated, lira_offline, lira_online
from reticent.attacks.membership.references import References, reference_models
from reticent.attacks.membership.relative import rmia_offline, rmia_online
from reticent.data import open_cohort
from reticent.records import RunFolder, make_study
from reticent.training import make_plan, train

MODELS = 10
RATE = 0.01
OVER_FITTED: dict[str, Any] = {
    "privacy": {"non_private": True, "sampling_rate": 0.5, "steps": 100},
    "model": {"arguments": {"width": 8}},
    "training": {"optimiser": "adam", "learning_rate": 0.003, "augment": "none", "ema_decay": 0.0},
}
BY_HEART: dict[str, Any] = {
    "privacy": {"non_private": True, "sampling_rate": 0.5, "steps": 300},
    "model": {"arguments": {"width": 16}},
    "training": OVER_FITTED["training"],
}
PRIVATE: dict[str, Any] = {"privacy": {"epsilon": 8.0, "delta": 1e-4}}


def mislabelled(archive: Path, work: Path, share: float, records: int | None = None) -> Path:
    """A copy, perhaps of the first records alone, in which so many labels, drawn at random, are the other one.

    They can be learnt by heart alone.
    """
    rng = np.random.default_rng(0)
    with np.load(archive) as stored:
        arrays = dict(stored)
    if records is not None:
        arrays = {
            f"{split}_{kind}": arrays[f"train_{kind}"][rows]
            for kind in ("images", "labels")
            for split, rows in (("train", slice(records // 5, records)), ("test", slice(records // 5)))
        }
    for name in arrays:
        if name.endswith("labels"):
            arrays[name] = np.where(rng.random(arrays[name].shape) < share, 1 - arrays[name], arrays[name])
    path = work / f"{archive.stem}-mislabelled.npz"
    np.savez(path, **arrays)
    return path


def trained(archive: Path, work: Path, name: str, options: dict[str, Any]) -> RunFolder:
    """A run of the product on an archive of records."""
    cohort = {"uri": str(archive), "unit": "record"}
    study = make_study({"cohort": cohort, **options})
    opened = open_cohort(study.cohort.uri, unit="record")
    plan = make_plan(study, len(opened.classes))
    return train(study, opened, work / name, ledger=work / "ledger.sqlite", plan=plan, progress=lambda *_: None)


def rotated(references: References, count: int) -> dict[str, dict[str, float]]:
    """AUC and TPR at FPR 1 %, means over all models as targets with so many references, and their standard errors."""
    phi, log_p = references.signals
    inside, found = references.inside, dict[str, list[tuple[float, float]]]()
    for target in range(MODELS):
        others = [k for k in range(MODELS) if k // 2 != target // 2][:count]
        member, known = inside[target], inside[others]
        scores = {
            "loss": phi[target],
            "calibrated loss": calibrated(phi[target], phi[others], known),
            "LiRA, offline": lira_offline(phi[target], phi[others], known),
            "LiRA": lira_online(phi[target], phi[others], known),
            "RMIA, offline": rmia_offline(log_p[target], log_p[others], known),
            "RMIA": rmia_online(log_p[target], log_p[others], known),
        }
        for name, values in scores.items():
            area = auc(values[member], values[~member])[0]
            rate = found_at(values[member], values[~member], RATE).value
            found.setdefault(name, []).append((area, rate))
    return {
        name: {
            "auc": np.mean(values, 0)[0], "auc_error": np.std(values, 0, ddof=1)[0] / MODELS**0.5,
            "tpr": np.mean(values, 0)[1], "tpr_error": np.std(values, 0, ddof=1)[1] / MODELS**0.5,
        }
        for name, values in found.items()
    }  # fmt: skip


def over_fitted(archive: Path, work: Path, options: dict[str, Any] = OVER_FITTED) -> dict[str, Any]:
    """Attacks on classifiers without privacy."""
    began = time.process_time()
    with LoadedRun(trained(archive, work, f"over-fitted-{archive.stem}", options)) as run:
        seconds = time.process_time() - began
        references = reference_models(run, list(range(len(run.data.splits))), MODELS, AttackOptions(seed=1))
    phi, inside = references.signals.phi, references.inside
    return {
        "seconds_of_a_training": seconds,
        "accuracy_inside": float((phi > 0)[inside].mean()),
        "accuracy_outside": float((phi > 0)[~inside].mean()),
        "by_references": {count: rotated(references, count) for count in (MODELS - 2, 4, 2)},
    }


def private(archive: Path, work: Path) -> dict[str, Any]:
    """The default audit, RMIA and LiRA on a private run."""
    began = time.process_time()
    folder = trained(archive, work, "private", PRIVATE)
    seconds, found = {"training": time.process_time() - began}, []
    with LoadedRun(folder) as run:
        for name in ("step", "one-run", "loss", "lira", "rmia"):
            attack, began = ATTACKS[name], time.process_time()
            own = {"references": 4} if name in ("lira", "rmia") else {}
            for finding in attack.findings(run, attack.options(seed=1, **own)):
                found.append(finding.model_dump(mode="json", exclude={"adversary", "left_out", "created"}))
            seconds[name] = time.process_time() - began
    return {"seconds": seconds, "findings": found}


def main() -> None:
    """Measure and write."""
    data, out, only = Path(sys.argv[1]).resolve(), Path(sys.argv[2]), sys.argv[3:]
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        archive, chests = data / "medmnist" / "breastmnist.npz", data / "medmnist" / "pneumoniamnist.npz"
        results: dict[str, Any] = json.loads(out.read_text()) if out.is_file() else {}
        for name, part in (
            ("over_fitted", lambda: over_fitted(archive, work)),
            ("over_fitted_mislabelled", lambda: over_fitted(mislabelled(archive, work, 0.1), work)),
            ("by_heart", lambda: over_fitted(mislabelled(chests, work, 0.1, 1000), work, BY_HEART)),
            ("private", lambda: private(archive, work)),
        ):
            if only and name not in only:
                continue
            results[name] = part()
            out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
