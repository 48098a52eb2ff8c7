"""Patches lie where they should, and hold what the record holds there."""

import numpy as np
import pytest

from reticent.data import DecodedCache, Patches, Preprocessing, open_cohort

SIZE = (4, 5, 6)


@pytest.fixture
def cache(make_msd, tmp_path):
    """Three volumes of different sizes, whose voxels tell where they lie; the organ is two corners, or nothing."""
    cases = []
    for shape in ((9, 7, 8), (12, 6, 6), (3, 20, 7)):
        image = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        mask = np.zeros(shape, np.uint8)
        if shape[0] != 12:
            mask[0, 0, 0] = mask[-1, -1, -1] = 1
        cases.append((image, mask))
    cohort = open_cohort(str(make_msd(*cases)))
    return DecodedCache(cohort, Preprocessing(least=SIZE), tmp_path / "cache", ragged=True)


def corner_of(patch, whole):
    """Where the patch lies in the whole; raises if it lies nowhere or is another one."""
    place = np.argwhere(whole[0] == patch[(0,) * patch.ndim])
    for corner in place:
        inside = tuple(slice(c, c + n) for c, n in zip(corner, SIZE, strict=True))
        if whole[0][inside].shape == SIZE and (whole[0][inside] == patch[0]).all():
            return tuple(corner)
    raise AssertionError("the patch is nowhere in its record")


def test_patches_are_parts_of_their_records_in_order(cache):
    inputs, targets = Patches(cache, SIZE, 0.5).drawn([0, 2, 1], 7, np.random.default_rng(0))
    assert inputs["image"].shape == (21, 1, *SIZE)
    assert targets["mask"].shape == (21, *SIZE)
    for row, record in enumerate(np.repeat([0, 2, 1], 7)):
        whole, mask = cache.view("image", record), cache.view("mask", record)
        corner = corner_of(inputs["image"][row], whole)
        inside = tuple(slice(c, c + n) for c, n in zip(corner, SIZE, strict=True))
        np.testing.assert_array_equal(targets["mask"][row], mask[inside])


def test_with_certainty_on_the_foreground_every_patch_shows_it_and_all_places_are_met(cache):
    """Each of two places is missed by all of 40 draws with probability 2^-39."""
    inputs, targets = Patches(cache, SIZE, 1.0).drawn([0], 40, np.random.default_rng(1))
    assert targets["mask"].any(axis=(1, 2, 3)).all()
    corners = {corner_of(patch, cache.view("image", 0)) for patch in inputs["image"]}
    assert corners == {(0, 0, 0), (5, 2, 2)}


def test_without_oversampling_and_without_foreground_patches_lie_anywhere(cache):
    """One of 18 corners is missed by all of 200 draws with probability below 2e-4, and the seed is fixed."""
    inputs, _ = Patches(cache, SIZE, 1.0).drawn([1], 200, np.random.default_rng(2))
    corners = {corner_of(patch, cache.view("image", 1)) for patch in inputs["image"]}
    assert corners == {(x, y, 0) for x in range(9) for y in range(2)}


def test_the_central_patch_and_small_records_padded_to_a_patch(cache):
    inputs, _ = Patches(cache, SIZE, 0.5).central([0, 2])
    assert corner_of(inputs["image"][0], cache.view("image", 0)) == (2, 1, 1)
    assert cache.view("image", 2).shape == (1, 4, 20, 7)
    assert inputs["image"][1].shape == (1, *SIZE)


def test_no_records_give_no_patches(cache):
    inputs, targets = Patches(cache, SIZE, 0.5).drawn([], 3, np.random.default_rng(0))
    assert inputs["image"].shape == (0, 1, *SIZE)
    assert targets["mask"].shape == (0, *SIZE)
