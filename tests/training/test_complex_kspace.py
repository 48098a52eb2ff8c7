"""The task of Riess et al. 2024 in small: the sequence of an image from its k-space."""

import numpy as np

from reticent.data import open_cohort
from reticent.records import make_study
from reticent.training import make_plan, train


def ellipse(side, centre, axes, angle):
    y, x = np.mgrid[:side, :side] / side - 0.5
    x, y = x - centre[0], y - centre[1]
    turned = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    return (turned[0] / axes[0]) ** 2 + (turned[1] / axes[1]) ** 2 < 1


CONTRASTS = np.array([[60, 150, 20, 90], [120, 90, 240, 200], [80, 130, 15, 240], [180, 60, 120, 30]])
"""Intensities of scalp, brain, ventricles and lesion in four made-up sequences."""


def contrasts(count, seed, side=32):
    """Images (count, side, side) of nested random ellipses, and their sequence."""
    rng, images = np.random.default_rng(seed), np.zeros((count, side, side))
    label = np.arange(count) % 4
    for image, intensities in zip(images, CONTRASTS[label], strict=True):
        angle, shift = rng.uniform(0, np.pi), rng.uniform(-0.05, 0.05, 2)
        for intensity, size in zip(intensities, (0.42, 0.34, 0.14, 0.08), strict=True):
            away = shift + (rng.uniform(-0.15, 0.15, 2) if size < 0.1 else 0)
            image[ellipse(side, away, size * rng.uniform(0.8, 1.15, 2), angle)] = intensity
        image *= rng.uniform(0.7, 1.05)
    return np.clip(images + rng.normal(0, 6, images.shape), 0, 255).astype(np.uint8), label[:, None].astype(np.uint8)


def test_sequences_are_told_apart_in_kspace_at_epsilon_three(tmp_path):
    """A quarter would be chance: 200 guesses reach 0.5 with probability < 1e-12."""
    arrays = {}
    for split, count in (("train", 1600), ("val", 40), ("test", 200)):
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = contrasts(count, len(arrays))
    np.savez(tmp_path / "sequences.npz", **arrays)
    study = make_study(
        {
            "cohort": {"uri": str(tmp_path / "sequences.npz"), "unit": "record"},
            "privacy": {"epsilon": 3.0, "delta": 5e-4, "steps": 36, "sampling_rate": 0.06, "seed": 1},
            "model": {"name": "complex", "arguments": {"width": 8}},
            "training": {"augment": "none", "learning_rate": 0.05},
        }
    )
    cohort = open_cohort(study.cohort.uri, unit="record")
    folder = train(study, cohort, tmp_path / "run", ledger=None, plan=make_plan(study), progress=lambda *_: None)
    assert folder.statement().epsilon.upper <= 3.0
    (test,) = (split for split in folder.metrics().splits if split.split == "test")
    assert test.metrics["balanced_accuracy"].value > 0.75
