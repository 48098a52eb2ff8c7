"""What attacks rebuild of real images from gradients, without privacy and with noise, beside the mean image.

    .venv/bin/python benchmarks/reconstruction.py ../shared/data benchmarks/results/reconstruction.json docs/images

Chest X-rays (Kermany), one of each patient, 32 x 32, on the default classifier before training; MR slices of the
hippocampus on the default segmenter. The adversary's own images are those of held-out patients. Rows that the results
hold already are skipped: delete the file to measure anew. About 20 CPU-minutes; `reconstruction_peer.py` adds the peer.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reconstruction_data import chests, hippocampus, network
from reticent.attacks.reconstruction import (
    SEARCHES,
    Column,
    Defence,
    Search,
    alone_in_a_bin,
    compared,
    imprint,
    invert_gradient,
    match_reconstructions,
    mse,
    observed_gradient,
    optimal_linear_attack,
    read_imprint,
    read_rows,
    save_grid,
    share,
    soft_loss,
    soft_targets,
    trap,
)
from reticent.attacks.reconstruction.on_runs.material import Material
from reticent.training import Classification, Segmentation, Task
from reticent.training.noise import SeededSource

XRAYS, SLICES, LINEAR, MANY, SHOWN = 10, 20, 200, 256, 3
NOISE = (1e-3, 1e-2, 1e-1)
EIGHT_BIT = 0.5 / 255
"""Greatest error of a pixel in [0, 1] at which an 8-bit image is exactly the same."""
NEURONS = 256
TASK = Classification("binary", ("normal", "pneumonia"))
UNCLIPPED = Defence()
Rows = Iterator[tuple[str, Callable[[], dict[str, Any]]]]
"""Names of rows, and what measures each."""


def rebuilt(
    model: nn.Module, task: Task, material: Material, search: Search, defence: Defence = UNCLIPPED, batch: int = 1
) -> Tensor:
    """Images in [0, 1], found from one gradient for each `batch` patients, each in its patient's place."""
    found = []
    for rows in torch.arange(len(material.images)).split(batch):
        data, seed = material.batch(rows.tolist()), int(rows[0])
        seen = observed_gradient(model, task.loss_fn(), data, defence, SeededSource(seed))
        images = invert_gradient(
            model, soft_loss(task), seen, tuple(material.images.shape[1:]), search=search, records=len(rows),
            targets=soft_targets(task, data["targets"]), box=material.box, defence=defence, seed=seed,
        ).images  # fmt: skip
        own = match_reconstructions(data["inputs"]["image"], images, one_to_one=True)
        found.append(material.unit(images[own.index]))
    return torch.cat(found)


def scored(material: Material, images: Tensor) -> dict[str, Any]:
    """PSNR and SSIM beside those of the mean image, and by how much they are better, with 95 % intervals."""
    targets, mean = material.unit(material.images), material.unit(material.references).mean(0, keepdim=True)
    return {metric: asdict_(compared(metric, targets, images, mean)) for metric in ("PSNR", "SSIM")}


def asdict_(found: Any) -> dict[str, Any]:
    """A comparison as JSON."""
    return {
        **asdict(found), "interval": found.interval.model_dump(), "gain_interval": found.gain_interval.model_dump(),
    }  # fmt: skip


def row(model: nn.Module, task: Task, material: Material, search: str, defence: Defence, batch: int) -> dict[str, Any]:
    """One line of a table."""
    began = time.process_time()
    images = rebuilt(model, task, material, SEARCHES[search], defence, batch)
    seconds = (time.process_time() - began) / len(images)
    return {
        "search": search, "iterations": SEARCHES[search].iterations, "batch": batch, "images": len(images),
        "max_norm": defence.max_norm, "noise_multiplier": defence.noise_multiplier, "cpu_seconds_per_image": seconds,
        **scored(material, images),
    }  # fmt: skip


def inversion(data: Path, _: Path) -> Rows:
    """Classifier: searches without a defence, with clipping and noise, and of a batch of four."""
    material, model = chests(data, XRAYS), network()
    noised = [("likelihood", sigma, 1) for sigma in NOISE] + [("cosine", sigma, 1) for sigma in NOISE[:2]]
    bare = [(search, 0.0, 1) for search in SEARCHES]
    for search, sigma, batch in [*bare, *noised, ("cosine", 0.0, 4)]:
        defence = Defence(1.0, sigma) if sigma else UNCLIPPED
        yield f"{search}, noise {sigma:g}, batch {batch}", partial(row, model, TASK, material, search, defence, batch)


def segmentation(data: Path, _: Path) -> Rows:
    """Segmenter whose masks are known, without a defence and with noise."""
    material, task = hippocampus(data, SLICES), Segmentation("segmentation", ("background", "anterior", "posterior"))
    model = network(outputs=3, segments=True)
    yield "no defence", partial(row, model, task, material, "cosine", UNCLIPPED, 1)
    yield "noise 0.01", partial(row, model, task, material, "likelihood", Defence(1.0, 1e-2), 1)


def malicious_layers(data: Path, _: Path) -> Rows:
    """Share of 256 X-rays that are read out exactly, by batch size; with noise, to a mean squared error of 0.001."""
    material = chests(data, MANY)
    for name in ("imprint", "trap weights"):
        for batch, sigma in [(b, 0.0) for b in (1, 4, 16, 64)] + [(16, s) for s in (1e-4, 1e-3, 1e-2)]:
            yield f"{name}, batch {batch}, noise {sigma:g}", partial(read_out, material, name, batch, sigma)


def read_out(material: Material, name: str, batch: int, sigma: float) -> dict[str, Any]:
    """Shares of images that a malicious layer recovers, with Clopper-Pearson intervals."""
    layer = (
        imprint(material.references, NEURONS) if name == "imprint" else trap(material.references, NEURONS, batch)
    )  # fmt: skip
    read, defence = read_imprint if name == "imprint" else read_rows, Defence(1.0, sigma) if sigma else UNCLIPPED
    exact, near = [], []
    for chosen in torch.arange(len(material.images)).split(batch):
        source = SeededSource(int(chosen[0]))
        seen = observed_gradient(layer, TASK.loss_fn(), material.batch(chosen.tolist()), defence, source)
        targets = material.unit(material.images[chosen])
        found = material.unit(read(layer, seen).float()).clamp(0, 1)
        candidates = found if len(found) else torch.full_like(targets[:1], 0.5)  # no neuron was active
        best = candidates[match_reconstructions(targets, candidates).index]
        exact += ((best - targets).abs().flatten(1).amax(1) < EIGHT_BIT).tolist()
        near += (mse(best, targets) < 1e-3).tolist()
    counted = {}
    for key, hits in (("exact", exact), ("near", near)):
        value, interval = share(torch.tensor(hits))
        counted |= {key: value, f"{key}_interval": interval.model_dump()}
    expected = alone_in_a_bin(batch, NEURONS) / batch if name == "imprint" else None
    return {"layer": name, "batch": batch, "noise_multiplier": sigma, "expected": expected, **counted}


def optimal_linear(data: Path, _: Path) -> Rows:
    """Errors of the best linear attack beside their law, and those of shrinkage and of the mean image."""
    material = chests(data, LINEAR)
    for sigma in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0):
        yield f"noise {sigma:g}", partial(linear, material, sigma)


def linear(material: Material, sigma: float) -> dict[str, Any]:
    """Mean squared errors in units of [0, 1], and the p-values of both laws."""
    found = optimal_linear_attack(material.images, Defence(1.0, sigma), SeededSource(round(1e4 * sigma)))
    targets, width = material.unit(material.images), (material.box[1] - material.box[0]) ** 2
    mean = material.unit(material.references).mean(0, keepdim=True).expand_as(targets)
    return {
        "noise_multiplier": sigma, "images": len(targets),
        "mse": float(mse(material.images, found.unbiased).mean()) / width,
        "law": sum(law.expected_mse() for law in found.laws) / len(found.laws) / width,
        "p_value": found.p_value, "p_value_shrinkage": found.shrinkage_p_value,
        "mse_shrunk": float(mse(material.images, found.shrunk).mean()) / width,
        "mse_mean_image": float(mse(targets, mean).mean()),
        "median_norm": sorted(law.record_norm for law in found.laws)[len(targets) // 2],
    }  # fmt: skip


def pictures(data: Path, folder: Path) -> Rows:
    """The pictures of the documentation, of the first patients above."""
    material, model = chests(data, SHOWN), network()
    originals = material.unit(material.images)
    mean = Column("mean image", material.unit(material.references).mean(0).expand_as(originals))

    def inverted() -> dict[str, Any]:
        columns = [Column("original", originals)]
        for title, search, sigma in (("no privacy", "cosine", 0.0), ("noise 0.001", "likelihood", 1e-3),
                                     ("noise 0.01", "likelihood", 1e-2)):  # fmt: skip
            defence = Defence(1.0, sigma) if sigma else UNCLIPPED
            columns.append(Column(title, rebuilt(model, TASK, material, SEARCHES[search], defence)))
        save_grid(folder / "gradient-inversion.png", [*columns, mean], SHOWN, "one gradient of one patient each")
        return {"images": SHOWN}

    def read() -> dict[str, Any]:
        columns = [Column("original", originals)]
        for sigma in (1e-3, 1e-2, 3e-2):
            found = optimal_linear_attack(material.images, Defence(1.0, sigma), SeededSource(1))
            columns.append(Column(f"noise {sigma:g}", material.unit(found.unbiased)))
        columns.append(Column("0.03, shrunk", material.unit(found.shrunk)))
        save_grid(folder / "optimal-linear-attack.png", [*columns, mean], SHOWN, "one noisy step of one patient each")
        return {"images": SHOWN}

    yield "gradient-inversion.png", inverted
    yield "optimal-linear-attack.png", read


PARTS: tuple[Callable[[Path, Path], Rows], ...] = (optimal_linear, malicious_layers, inversion, segmentation, pictures)


def main() -> None:
    """Measure what is missing, and write after each row."""
    data, out, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2]), Path(sys.argv[3])
    warnings.simplefilter("ignore")
    results = json.loads(out.read_text()) if out.exists() else {}
    for part in PARTS:
        rows = results.setdefault(part.__name__, {})
        for name, measure in part(data, folder):
            if name not in rows:
                rows[name] = measure()
                print(part.__name__, name, rows[name], flush=True)
                out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
