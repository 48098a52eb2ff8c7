"""Boxes around the largest part of a mask: it is inside, and pasting back restores coordinates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.data import Box, crop, localise, paste
from reticent.errors import InputError


def ball(shape, centre, radius, spacing):
    grid = np.indices(shape) * np.reshape(spacing, (-1, 1, 1, 1))
    return ((grid - np.reshape(centre, (-1, 1, 1, 1)) * np.reshape(spacing, (-1, 1, 1, 1))) ** 2).sum(0) <= radius**2


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.integers(12, 30)] * 3), st.tuples(*[st.floats(0.1, 0.9)] * 3), st.floats(2, 12),
    st.tuples(*[st.sampled_from([0.7, 1.0, 2.5])] * 3), st.floats(0, 20),
)  # fmt: skip
def test_the_crop_holds_a_ball_with_its_margin_and_goes_back_to_its_place(shape, place, radius, spacing, margin):
    centre = [int(p * (n - 1)) for p, n in zip(place, shape, strict=True)]
    mask = ball(shape, centre, radius, spacing)
    box = localise(mask, spacing, margin)
    volume = np.random.default_rng(0).normal(size=(2, *shape))
    part = crop(volume, box)
    assert crop(mask, box).sum() == mask.sum()
    back = paste(part, box, shape, np.nan)
    assert np.array_equal(back[(slice(None), *box.slices)], volume[(slice(None), *box.slices)])
    assert np.isnan(back).sum() == volume.size - part.size
    sides = [np.ptp(np.flatnonzero(mask.any(tuple({0, 1, 2} - {axis})))) + 1 for axis in range(3)]
    wanted = max(n * s for n, s in zip(sides, spacing, strict=True))
    wanted += 2 * max(margin, 0.3 * wanted)
    for axis in range(3):
        length = box.stop[axis] - box.start[axis]
        assert length == min(shape[axis], np.ceil(wanted / spacing[axis] - 1e-9))


def test_the_largest_part_counts_and_flat_masks_give_squares():
    mask = np.zeros((40, 60), int)
    mask[3:6, 3:6] = 1
    mask[20:28, 30:34] = 2
    assert localise(mask, (1, 1), margin=2, share=0) == Box((18, 26), (30, 38))


def test_at_the_border_the_box_is_moved_and_an_empty_mask_has_none():
    mask = np.zeros((20, 20), int)
    mask[0:4, 16:20] = 1
    assert localise(mask, (1, 1), margin=3, share=0) == Box((0, 10), (10, 20))
    assert localise(np.zeros((5, 5)), (1, 1)) is None
    with pytest.raises(InputError, match="margin"):
        localise(mask, (1, 1), margin=-1)
