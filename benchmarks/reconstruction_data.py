"""Images that `reconstruction.py` attacks, those that its adversary has, and the networks whose gradients are seen."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import torch
from torch import Tensor, nn

from reticent.attacks.reconstruction.on_runs.material import Material
from reticent.data import Preprocessing, Record, open_cohort
from reticent.data.preprocess import resize_image, resize_mask
from reticent.records import make_study
from reticent.training import new_network

SIDE, REFERENCES = 32, 300
BOX = (-2.0, 2.0)
"""What [0, 1] becomes where intensities are scaled, as the product does with 8-bit images."""


def chests(data: Path, count: int, *, grey: bool = True) -> Material:
    """One X-ray of each of `count` training patients, labels, and X-rays of held-out patients."""
    cohort = open_cohort(str(data / "kermany_cxr" / "manifest.csv"))
    preprocess = Preprocessing((SIDE, SIDE), "scale", 1 if grey else 3, grey)
    own = {split: {e.subject: i for i, e in enumerate(cohort.entries) if e.split in split} for split in _SPLITS}
    rng = np.random.default_rng(1)
    attacked, held_out = (rng.permutation(sorted(own[split].values())) for split in _SPLITS)
    records = [[preprocess.apply(cohort.load(int(i))) for i in part] for part in (attacked[:count], held_out)]
    labels = torch.tensor([cohort.entries[int(i)].label for i in attacked[:count]])
    images, references = (_stacked(part) for part in records)
    return Material(images, {"label": labels}, references, {}, BOX, "held-out patients", "the same source", 1)


_SPLITS = (("train",), ("val", "test"))


def _stacked(records: list[Record]) -> Tensor:
    return torch.from_numpy(np.stack([next(iter(record.inputs.values())) for record in records]))


def hippocampus(data: Path, count: int) -> Material:
    """The slice with most hippocampus of each of `count` patients, with its mask; slices of 100 others."""
    volumes = sorted((data / "msd_hippocampus" / "imagesTr").glob("*.nii.gz"))
    chosen = np.random.default_rng(1).permutation(len(volumes))[: count + 100]
    pairs = [_largest_slice(volumes[i]) for i in chosen]
    images = torch.from_numpy(np.stack([image for image, _ in pairs]))
    masks = torch.from_numpy(np.stack([mask for _, mask in pairs]))
    targets = {"mask": masks[:count]}
    return Material(images[:count], targets, images[count:], {}, BOX, "other patients", "the same source", 1)


def _largest_slice(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = np.asarray(nibabel.load(path).dataobj, dtype=np.float32)
    mask = np.asarray(nibabel.load(path.parent.parent / "labelsTr" / path.name).dataobj).astype(np.int64)
    place = int((mask > 0).sum((0, 2)).argmax())
    low, high = np.percentile(image, [1, 99])
    unit = ((image[None, :, place] - low) / (high - low)).clip(0, 1)
    return (4 * resize_image(unit, (SIDE, SIDE)) - 2).astype(np.float32), resize_mask(mask[:, place], (SIDE, SIDE))


def network(*, channels: int = 1, outputs: int = 2, segments: bool = False) -> nn.Module:
    """The product's default network before training."""
    study = make_study({"cohort": {"uri": "unused"}, "privacy": {"noise_multiplier": 1.0}})
    torch.manual_seed(0)
    return new_network(study.model, channels, outputs, (SIDE, SIDE), "mask" if segments else "vector").eval()
