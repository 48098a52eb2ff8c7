"""The peer: a plain GroupNorm CNN trained by Opacus on PneumoniaMNIST.

Steps and clipping norm are ours; the sampling rate is half of ours.

    .venv/bin/python benchmarks/opacus_peer.py ../shared/data 8 [learning rate]

Prints JSON like a row of `main_job.py`: wall-clock seconds (import included), noise multiplier, AUROC on val and test.
Its learning rate was chosen on the validation split, like ours. Needs the extra `benchmark`.
"""

from __future__ import annotations

import json
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

SAMPLING_RATE, EPOCHS, MAX_NORM, DELTA = 0.1, 10, 1.0, 1e-5


def network(channels: int = 1, classes: int = 2) -> nn.Module:
    """Three convolutions with GroupNorm and ReLU, two poolings, one linear layer."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.GroupNorm(8, 32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.GroupNorm(8, 64), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(256, classes),
    )  # fmt: skip


def main() -> None:
    """Train once and print the row."""
    warnings.simplefilter("ignore")
    data, epsilon = Path(sys.argv[1]), float(sys.argv[2])
    rate = float(sys.argv[3]) if len(sys.argv) > 3 else 5e-3
    arrays = np.load(data / "medmnist" / "pneumoniamnist.npz")
    splits = {
        name: ((torch.from_numpy(arrays[f"{name}_images"]).float()[:, None] / 255 - 0.5) / 0.5,
               torch.from_numpy(arrays[f"{name}_labels"].ravel()).long())
        for name in ("train", "val", "test")
    }  # fmt: skip
    model = network()
    optimiser = torch.optim.Adam(model.parameters(), rate)
    loader = DataLoader(TensorDataset(*splits["train"]), batch_size=round(SAMPLING_RATE * len(splits["train"][0])))
    model, optimiser, loader = PrivacyEngine(accountant="prv").make_private_with_epsilon(
        module=model, optimizer=optimiser, data_loader=loader, target_epsilon=epsilon, target_delta=DELTA,
        epochs=EPOCHS, max_grad_norm=MAX_NORM,
    )  # fmt: skip
    for _ in range(EPOCHS):
        for x, y in loader:
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimiser.step()
    model.eval()
    row = {"seconds": 0.0, "noise_multiplier": optimiser.noise_multiplier, "splits": {}}
    for name in ("val", "test"):
        with torch.no_grad():
            scores = model(splits[name][0]).softmax(1)[:, 1]
        row["splits"][name] = {"auroc": float(roc_auc_score(splits[name][1], scores))}
    row["seconds"] = round(time.perf_counter() - BEGAN, 1)
    print(json.dumps(row))


if __name__ == "__main__":
    main()
