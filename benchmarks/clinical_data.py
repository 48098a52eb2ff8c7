"""The data of `clinical_response.py`, as manifests that the working folder gets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

LABORATORY = ("crp", "d-dimer", "factor_xii", "ldh", "lymphocytes", "neutrophils", "pco2", "po2")
TEST, LABELS = 200, 60
_ALIKE = 0.98
"""Correlation of thumbnails from which on two lesions are taken for views of the same."""


def hannover(data: Path, folder: Path) -> Path:
    """The first radiograph of each patient, laboratory values of that time, projection, sex; outcome: a stay on ICU."""
    source = data / "hannover_covid_cxr"
    table = pd.read_csv(source / "data.csv")
    stay = table.groupby("patient_id")["icu_admission_offset"].transform(lambda days: days.notna().any())
    # offsets count days from the image: the first image lies closest before, or least behind, the admission
    first = table.assign(icu=stay.astype(int)).sort_values("admission_offset", ascending=False, kind="stable")
    first = first.groupby("patient_id", sort=True).head(1).sort_values("patient_id")
    made = pd.DataFrame(
        {
            "file": [str(source / "images" / f"{name}.jpg") for name in first["image_id"]],
            "subject": first["patient_id"].to_numpy(),
            "icu": first["icu"].to_numpy(),
            "projection": first["projection"].to_numpy(),
            "sex": first["sex"].to_numpy(),
            **{name.replace("-", "_"): first[f"{name}_val"].to_numpy() for name in LABORATORY},
        }
    )
    path = folder / "hannover.csv"
    made.to_csv(path, index=False)
    return path


def busi(data: Path, folder: Path, split: int) -> tuple[Path, Path, Path]:
    """Manifests of a random split of BUSI's 647 lesions: with masks; of 60 labels and the same test images; with both.

    Subjects are groups of near-duplicates, which never part; BUSI names no patients.
    """
    source = data / "busi"
    table = pd.read_csv(source / "manifest.csv")
    table = table[table["class"] != "normal"].reset_index(drop=True)
    table["subject"] = _groups(source / "images", table["file"].tolist())
    order = np.random.default_rng(split).permutation(table["subject"].unique())
    test = _first(order, table["subject"], TEST)
    labelled = _first([name for name in order if name not in test], table["subject"], LABELS)
    table["split"] = ["test" if name in test else "train" for name in table["subject"]]
    table["mask"] = [str(source / "masks" / f"{Path(name).stem}.png") for name in table["file"]]
    table["file"] = [str(source / "images" / name) for name in table["file"]]
    masks, labels = folder / f"busi-{split}-masks.csv", folder / f"busi-{split}-labels.csv"
    table[["file", "subject", "mask", "split"]].to_csv(masks, index=False)
    chosen = table["subject"].isin(labelled | test)
    table[chosen][["file", "subject", "malignant", "split"]].to_csv(labels, index=False)
    both, beside = folder / f"busi-{split}-both.csv", table[["file", "subject", "mask", "malignant", "split"]].copy()
    beside["malignant"] = beside["malignant"].astype("Int64").where(chosen)
    beside["mask"] = beside["mask"].where(table["split"] == "train")
    beside.to_csv(both, index=False)
    return masks, labels, both


def _first(order: Iterable[str], subjects: pd.Series, images: int) -> set[str]:
    """As many of the groups, in this order, as have no more than so many images together."""
    names, sizes = list(order), subjects.value_counts()
    within = np.cumsum([sizes[name] for name in names]) <= images
    return {name for name, fits in zip(names, within, strict=True) if fits}


def _groups(images: Path, files: list[str]) -> list[str]:
    """The name of the first image that each is a near-duplicate of, by single linkage."""
    thumbnails = np.array([_thumbnail(images / name) for name in files])
    alike = thumbnails @ thumbnails.T / thumbnails.shape[1] > _ALIKE
    group = list(range(len(files)))
    for i, j in np.argwhere(np.triu(alike, 1)):
        old, new = group[j], group[i]
        group = [new if own == old else own for own in group]
    return [Path(files[own]).stem for own in group]


def _thumbnail(path: Path) -> np.ndarray:
    """16 x 16 grey values of mean 0 and standard deviation 1."""
    with Image.open(path) as image:
        values = np.asarray(image.convert("L").resize((16, 16), Image.Resampling.BOX), np.float64).ravel()
    return (values - values.mean()) / (values.std() + 1e-9)
