"""Explanations survive their file, and agree with a mask as far as they do."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from reticent.records import SliceExplanation


def explanation(mask, noise=0.0):
    """Of a network whose shares, attention and maps are the mask itself, plus noise."""
    rng = np.random.default_rng(0)
    slices = tuple(np.moveaxis(mask, axis, 0).astype(np.float32) for axis in range(3))
    area = np.concatenate([own.sum((1, 2)) for own in slices]) + noise * rng.normal(size=sum(mask.shape))
    maps = tuple(own + np.float32(noise) * rng.random(own.shape, np.float32) for own in slices)
    shares = np.stack([-area, area], 1)
    return SliceExplanation(("no", "yes"), 1, (0, 1, 2), slices, maps, area / area.sum(), shares, np.zeros(2))


@pytest.fixture
def mask():
    drawn = np.zeros((6, 8, 10), int)
    drawn[1:4, 2:5, 4:9] = 1
    drawn[2, 3, 1] = 1
    return drawn


def test_what_is_the_mask_agrees_with_it_fully(mask):
    found = explanation(mask).agreement_with(mask)
    assert found == {
        "contribution": pytest.approx(1), "attention": pytest.approx(1), "HiResCAM by slice": pytest.approx(1),
        "HiResCAM inside": pytest.approx(1), "mask": pytest.approx(46 / 480),
    }  # fmt: skip


def test_constant_maps_lie_inside_the_mask_as_far_as_it_fills_the_volume(mask):
    flat = replace(explanation(mask), maps=tuple(np.ones((n, 2, 2)) for n in mask.shape))
    found = flat.agreement_with(mask)
    assert found["HiResCAM inside"] == pytest.approx(found["mask"])


def test_noise_agrees_less(mask):
    noisy, clean = (explanation(mask, noise).agreement_with(mask) for noise in (5.0, 0.1))
    assert all(noisy[name] < clean[name] for name in clean if name != "mask")


def test_a_mask_is_compared_on_the_padded_grid_with_the_slices_that_are_there(mask):
    found, padded = explanation(mask), np.pad(mask, ((2, 1), (0, 0), (0, 0)))
    along = tuple(np.moveaxis(padded, axis, 0) for axis in (0, 1, 2))
    maps = (along[0][2:-1], *along[1:])
    shown = replace(found, maps=tuple(own.astype(np.float32) for own in maps), first=(2, 0, 0))
    agreed = shown.agreement_with(padded)
    inside = np.mean([46 / 480, 46 / 720, 46 / 720])
    assert {name: agreed.pop(name) for name in ("mask",)} == {"mask": pytest.approx(inside)}
    assert list(agreed.values()) == pytest.approx([1] * 4)


def test_columns_of_the_table_add_up_to_the_logits(mask):
    made = replace(explanation(mask), constant=np.array([0.5, -2.0]))
    rows = list(csv.DictReader(made.to_csv().splitlines()))
    assert (rows[-1]["axis"], rows[-1]["slice"]) == ("constant", "")
    for k, name in enumerate(made.classes):
        total = sum(float(row[f"logit of {name}"]) for row in rows)
        assert total == pytest.approx(made.constant[k] + made.contributions[:, k].sum(), abs=1e-4)
    assert sum(float(row["attention"]) for row in rows) == pytest.approx(1, abs=1e-4)


def test_an_explanation_comes_back_from_its_file(mask, tmp_path):
    made = replace(explanation(mask), truth="yes", agreement={"mask": 0.1}, first=(2, 0, 1))
    made.save(tmp_path / "1.npz")
    assert (tmp_path / "1.npz").stat().st_mode & 0o077 == 0
    read = SliceExplanation.load(tmp_path / "1.npz")
    assert (read.classes, read.predicted, read.axes, read.truth, read.agreement, read.first) == (
        made.classes, made.predicted, made.axes, "yes", {"mask": 0.1}, (2, 0, 1),
    )  # fmt: skip
    for name in ("slices", "maps"):
        for own, other in zip(getattr(read, name), getattr(made, name), strict=True):
            np.testing.assert_array_equal(own, other)
    np.testing.assert_array_equal(read.contributions, made.contributions)
