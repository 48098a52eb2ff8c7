"""The data of `methods.py`: each function returns a study's cohort options, made in the working folder where needed."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
from PIL import Image

SLICES = 6
POOL_SHARE = 3
"""Every so many-th training image of PneumoniaMNIST is in the pool to label from."""


def medmnist(data: Path, _: Path) -> dict[str, Any]:
    """PneumoniaMNIST: records, for there are no patients in it."""
    return {"uri": str(data / "medmnist" / "pneumoniamnist.npz"), "unit": "record"}


def kermany(data: Path, _: Path) -> dict[str, Any]:
    """Chest X-rays by patient, at 32 x 32: at 64 x 64 all methods come too close to 1."""
    return {"uri": str(data / "kermany_cxr" / "manifest.csv"), "image_size": [32]}


def cifar(data: Path, folder: Path) -> dict[str, Any]:
    """CIFAR-10, cut for its cost: 300 images a class to train on, 50 to validate and 100 to test with."""
    return _cifar(data, folder, "private", {"train": 300, "val": 50, "test": 100})


def photographs(data: Path, folder: Path) -> dict[str, Any]:
    """CIFAR-10 in grey, as public images: 900 a class to train on, 100 to validate and 200 to test with."""
    return {**_cifar(data, folder, "public", {"train": 900, "val": 100, "test": 200}), "grey": True}


def _cifar(data: Path, folder: Path, name: str, counts: Mapping[str, int]) -> dict[str, Any]:
    """So many images a class, in the order of their names; validation is taken behind training."""
    made = folder / "cifar10"
    manifest = made / f"{name}.csv"
    if not manifest.exists():
        (archive,) = (data / "cifar10_subset").glob("*.zip")
        with zipfile.ZipFile(archive) as stored:
            stored.extractall(made / "images")
        rows = []
        for label in sorted(path.name for path in (made / "images" / "train").iterdir()):
            images = {kind: sorted((made / "images" / kind / label).glob("*.jpg")) for kind in ("train", "test")}
            first, whole = counts["train"], counts["train"] + counts["val"]
            chosen = {
                "train": images["train"][:first],
                "val": images["train"][first:whole],
                "test": images["test"][: counts["test"]],
            }
            rows += [
                (path.relative_to(made / "images"), label, split) for split, paths in chosen.items() for path in paths
            ]
        pd.DataFrame(rows, columns=["file", "label", "split"]).to_csv(manifest, index=False)
    return {"uri": str(manifest), "unit": "record"}


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


def pool(data: Path, folder: Path) -> dict[str, Any]:
    """A third of PneumoniaMNIST's training images without labels, each a subject; held-out images have theirs.

    The labels that an expert would give stand in `truth.csv` beside the manifest.
    """
    made = folder / "pool"
    if not (made / "manifest.csv").exists():
        (made / "images").mkdir(parents=True, exist_ok=True)
        arrays, rows = np.load(data / "medmnist" / "pneumoniamnist.npz"), []
        for split, step in (("train", POOL_SHARE), ("val", 1), ("test", 1)):
            images, labels = arrays[f"{split}_images"][::step], arrays[f"{split}_labels"].ravel()[::step]
            for k, (image, label) in enumerate(zip(images, labels, strict=True)):
                name = f"{split}-{k}.png"
                Image.fromarray(image).save(made / "images" / name)
                rows.append({"file": name, "subject": name, "split": split, "label": int(label)})
        truth = pd.DataFrame(rows)
        truth.to_csv(made / "truth.csv", index=False)
        truth.assign(label=truth["label"].where(truth["split"] != "train").astype("Int64")).to_csv(
            made / "manifest.csv", index=False
        )
    return {"uri": str(made / "manifest.csv")}
