"""The peer: Opacus on PneumoniaMNIST, with a plain GroupNorm CNN or with our default network.

    .venv/bin/python benchmarks/opacus_peer.py ../shared/data 8 --network plain --learning-rate 0.005
    .venv/bin/python benchmarks/opacus_peer.py ../shared/data --search benchmarks/results/opacus_search.json

Prints JSON like a row of `main_job.py`: wall-clock seconds (import included), noise multiplier, AUROC on val and test.
`--search` runs the plain network with every schedule and learning rate once at epsilon 8 and 1, each in a process of
its own, and writes the rows that the file has not; `main_job.py` repeats the best one on validation. Our network is
not searched: with Opacus it takes several times as long as ours. Needs the extra `benchmark`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path

BEGAN = time.perf_counter()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from opacus import PrivacyEngine  # noqa: E402
from sklearn.metrics import roc_auc_score  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from reticent.records import make_study  # noqa: E402
from reticent.training import new_network  # noqa: E402

MAX_NORM, DELTA = 1.0, 1e-5
NETWORKS = ("plain", "default")
SCHEDULES, LEARNING_RATES = ("0.1 30", "0.2 30"), ("0.003", "0.01", "0.03")
"""Sampling rate and epochs, with which the plain network takes about as long as `reticent train`."""


def network(channels: int = 1, classes: int = 2) -> nn.Module:
    """Three convolutions with GroupNorm and ReLU, two poolings, one linear layer."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.GroupNorm(8, 32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.GroupNorm(8, 64), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(256, classes),
    )  # fmt: skip


def _default_network() -> nn.Module:
    study = make_study({"cohort": {"uri": "unused", "unit": "record"}, "privacy": {"epsilon": 8.0, "delta": DELTA}})
    return new_network(study.model, 1, 2, (28, 28))


def train(options: argparse.Namespace) -> dict[str, object]:
    """Train once; the row."""
    arrays = np.load(options.data / "medmnist" / "pneumoniamnist.npz")
    splits = {
        name: ((torch.from_numpy(arrays[f"{name}_images"]).float()[:, None] / 255 - 0.5) / 0.5,
               torch.from_numpy(arrays[f"{name}_labels"].ravel()).long())
        for name in ("train", "val", "test")
    }  # fmt: skip
    rate, epochs = options.schedule.split()
    model = network() if options.network == "plain" else _default_network()
    optimiser = torch.optim.Adam(model.parameters(), options.learning_rate)
    loader = DataLoader(TensorDataset(*splits["train"]), batch_size=round(float(rate) * len(splits["train"][0])))
    model, optimiser, loader = PrivacyEngine(accountant="prv").make_private_with_epsilon(
        module=model, optimizer=optimiser, data_loader=loader, target_epsilon=options.epsilon, target_delta=DELTA,
        epochs=int(epochs), max_grad_norm=MAX_NORM,
    )  # fmt: skip
    for _ in range(int(epochs)):
        for x, y in loader:
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimiser.step()
    model.eval()
    found = {}
    for name in ("val", "test"):
        with torch.no_grad():
            scores = model(splits[name][0]).softmax(1)[:, 1]
        found[name] = {"auroc": float(roc_auc_score(splits[name][1], scores))}
    seconds = round(time.perf_counter() - BEGAN, 1)
    return {"seconds": seconds, "noise_multiplier": optimiser.noise_multiplier, "splits": found}


def search(data: Path, out: Path) -> None:
    """Every configuration at both budgets; only validation is kept."""
    rows = json.loads(out.read_text()) if out.exists() else []
    done = [(row["epsilon"], row["options"]) for row in rows]
    for epsilon, schedule, rate in itertools.product(("8", "1"), SCHEDULES, LEARNING_RATES):
        options = ["--schedule", schedule, "--learning-rate", rate]
        if (epsilon, options) in done:
            continue
        command = [sys.executable, __file__, data, epsilon, *options]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows.append({"epsilon": epsilon, "options": options, "val": row["splits"]["val"]["auroc"]})
        print(json.dumps(rows[-1]), flush=True)
        out.write_text(json.dumps(rows, indent=1) + "\n")


def main() -> None:
    """Train once and print the row, or search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("epsilon", type=float, nargs="?")
    parser.add_argument("--search", type=Path)
    parser.add_argument("--network", choices=NETWORKS, default="plain")
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--schedule", default="0.1 10", help="sampling rate and epochs")
    options = parser.parse_args()
    if options.search:
        search(options.data, options.search)
    else:
        warnings.simplefilter("ignore")
        print(json.dumps(train(options)))


if __name__ == "__main__":
    main()
