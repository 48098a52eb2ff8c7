from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reticent.data import Preprocessing, Record, parse_window
from reticent.data.preprocess import resize_image, resize_mask
from reticent.errors import InputError

PIXELS = hnp.arrays(
    np.float32, st.tuples(st.just(2), st.integers(2, 9), st.integers(2, 9)), elements=st.floats(-100, 100, width=32)
)


def record(image, mask=None):
    return Record("s", {"image": image}, {} if mask is None else {"mask": mask}, {})


def applied(preprocessing, image):
    return preprocessing.apply(record(image)).inputs["image"]


@settings(deadline=None)
@given(PIXELS)
def test_standardised_channels_have_zero_mean_and_unit_deviation_or_are_zero(image):
    out = applied(Preprocessing(normalise="standardise"), image).astype(np.float64)
    assert out.shape == image.shape
    for before, after in zip(image, out, strict=True):
        if before.min() == before.max():
            assert not after.any()
        else:
            assert after.mean() == pytest.approx(0, abs=1e-4)
            assert after.std() == pytest.approx(1, abs=1e-4)


def test_scaling_keeps_grey_values_comparable_and_brings_others_to_their_range():
    fractions = np.array([[[0.25, 0.75]]], np.float32)
    scale = Preprocessing(normalise="scale")
    np.testing.assert_allclose(applied(scale, fractions), [[[-1, 1]]])
    np.testing.assert_allclose(applied(scale, fractions * 1000 - 300), [[[-2, 2]]])
    np.testing.assert_array_equal(applied(scale, np.full((1, 1, 2), 7, np.float32)), np.zeros((1, 1, 2)))


def test_8_bit_values_are_scaled_and_values_of_unknown_unit_standardised():
    fractions = np.array([[[0.25, 0.75]]], np.float32)
    for image, kind in ((fractions, "scale"), (fractions * 1000 - 300, "standardise")):
        np.testing.assert_array_equal(applied(Preprocessing(), image), applied(Preprocessing(normalise=kind), image))


def test_shrinking_by_a_whole_factor_averages_areas():
    image = np.random.default_rng(0).random((1, 8, 6)).astype(np.float32)
    expected = image.reshape(1, 4, 2, 3, 2).mean((2, 4))
    np.testing.assert_allclose(resize_image(image, (4, 3)), expected, rtol=1e-5)


@pytest.mark.parametrize("size", [(12, 9), (6, 9), (3, 3)])
def test_a_constant_image_stays_constant_at_every_size(size):
    np.testing.assert_allclose(
        resize_image(np.full((2, 6, 6), 0.3, np.float32), size), np.full((2, *size), 0.3), rtol=1e-6
    )


def test_masks_keep_their_labels_when_resized():
    mask = np.zeros((6, 6, 6), np.int64)
    mask[3:] = 2
    out = Preprocessing((4, 8, 3)).apply(record(np.zeros((1, 6, 6, 6), np.float32), mask))
    assert out.inputs["image"].shape == (1, 4, 8, 3)
    assert out.targets["mask"].dtype == np.int64
    np.testing.assert_array_equal(out.targets["mask"][:, 0, 0], [0, 0, 2, 2])


def test_grey_is_the_luminance_of_equal_channels_and_channels_repeat_grey():
    grey = np.random.default_rng(0).random((1, 5, 5)).astype(np.float32)
    plain = applied(Preprocessing(), grey)
    np.testing.assert_array_equal(applied(Preprocessing(channels=3), grey), np.repeat(plain, 3, 0))
    np.testing.assert_allclose(applied(Preprocessing(grey=True), np.repeat(grey, 3, 0)), plain, atol=1e-5)


def test_size_and_channels_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"--image-size 8 has 1 numbers, but the images have 2 dimensions \(5 x 5\)"):
        applied(Preprocessing((8,)), np.zeros((1, 5, 5), np.float32))
    with pytest.raises(InputError, match="2 channels where 1 are expected"):
        applied(Preprocessing(grey=True), np.zeros((2, 5, 5), np.float32))


def test_a_record_is_preprocessed_by_its_own_pixels_alone():
    images = np.random.default_rng(0).random((2, 1, 6, 6)).astype(np.float32)
    alone = applied(Preprocessing((4, 4)), images[0])
    applied(Preprocessing((4, 4)), images[1] * 1000)
    np.testing.assert_array_equal(applied(Preprocessing((4, 4)), images[0]), alone)


def test_a_declared_window_clips_and_scales_and_nothing_else_does():
    image = np.array([[[-1000.0, -300.0, 50.0, 249.0, 251.0, 3000.0]]], np.float32)
    out = applied(Preprocessing(window=(50.0, 400.0)), image)
    fractions = np.clip((image + 150) / 400, 0, 1)
    np.testing.assert_allclose(out, (fractions - 0.5) / 0.25, atol=1e-6)


def test_a_declared_spacing_keeps_sizes_in_mm_and_cuts_or_pads_around_the_centre():
    """A block of 20 x 20 x 24 mm in voxels of 1 x 2 x 4 mm has 10 x 10 x 12 voxels of 2 mm, and stays in the centre."""
    image = np.full((1, 60, 40, 20), -5.0, np.float32)
    image[:, 20:40, 15:25, 7:13] = 7
    mask = (image[0] > 0).astype(np.int64)
    made = replace(record(image, mask), spacing=(1.0, 2.0, 4.0))
    for side in (16, 17, 50, 51):
        size = (side, side, side)
        preprocessing = Preprocessing(size, spacing=(2.0,))
        out = preprocessing.apply(made)
        prepared = out.targets["mask"]
        assert prepared.shape == out.inputs["image"].shape[1:] == size
        assert [np.ptp(places) + 1 for places in prepared.nonzero()] == pytest.approx([10, 10, 12], abs=1)
        assert [places.mean() for places in prepared.nonzero()] == pytest.approx([(side - 1) / 2] * 3, abs=1)
        uncut = preprocessing.uncut(prepared[None], mask.shape, made.spacing)[0]
        np.testing.assert_array_equal(resize_mask(uncut, mask.shape), mask)


def test_what_is_padded_is_background_in_masks_and_each_channels_least_value_in_images():
    image = np.stack([np.full((4, 4), -1000.0), np.full((4, 4), 5.0)]).astype(np.float32)
    image[:, 0, 0] += 1
    mask = np.ones((4, 4), np.int64)
    preprocessing = Preprocessing((8, 8), spacing=(1.0,))
    out = preprocessing.apply(replace(record(image, mask), spacing=(1.0, 1.0)))
    assert out.targets["mask"].sum() == 16
    assert [np.unique(channel).size for channel in out.inputs["image"]] == [2, 2]
    uncut = Preprocessing((2, 2), spacing=(1.0,)).uncut(np.ones((1, 2, 2)), (4, 4), (1.0, 1.0))
    assert uncut.shape == (1, 4, 4)
    assert uncut.sum() == 4


@pytest.mark.parametrize("normalise", ["auto", "standardise", "scale"])
@pytest.mark.parametrize("window", [None, (40.0, 400.0)])
def test_marked_padding_lies_around_pixels_that_do_not_depend_on_the_canvas(normalise, window):
    image = np.random.default_rng(0).normal(40, 100, (2, 5, 6, 9)).astype(np.float32)
    made = replace(record(image), spacing=(1.0, 1.0, 1.0))
    whole, marked = (
        Preprocessing(size, normalise, spacing=(1.0,), window=window, mark_padding=True).apply(made).inputs
        for size in ((5, 6, 7), (8, 9, 7))
    )
    assert not whole["padding"].any()
    assert whole["padding"].shape == (5 + 6 + 7,)
    np.testing.assert_array_equal(marked["padding"], [1, 0, 0, 0, 0, 0, 1, 1, *[1, 0, 0, 0, 0, 0, 0, 1, 1], *[0] * 7])
    inside = marked["image"][:, 1:6, 1:7]
    np.testing.assert_array_equal(inside, whole["image"])
    for channel, own in zip(marked["image"], inside, strict=True):
        outside = np.delete(channel.reshape(8, -1), slice(1, 6), 0)
        assert (outside == own.min()).all()
    same = Preprocessing((5, 6, 7), normalise, spacing=(1.0,), window=window).apply(made).inputs
    np.testing.assert_array_equal(same["image"], whole["image"])
    assert set(same) == {"image"}


def test_a_spacing_that_cannot_be_had_is_refused():
    image = np.zeros((1, 6, 6), np.float32)
    with pytest.raises(InputError, match="s: the file tells no pixel or voxel size; leave out --spacing"):
        applied(Preprocessing((4, 4), spacing=(1.0,)), image)
    with pytest.raises(InputError, match="--spacing has 3 numbers, but the images have 2 dimensions"):
        Preprocessing((4, 4), spacing=(1.0, 1.0, 1.0)).apply(replace(record(image), spacing=(1.0, 1.0)))


def test_usual_windows_go_by_name_and_wrong_ones_are_refused():
    assert parse_window("lung") == (-600, 1500)
    assert parse_window("-50,80.5") == (-50, 80.5)
    for text, message in (
        ("lungs", "CENTRE,WIDTH or one of abdomen"),
        ("1", "CENTRE,WIDTH"),
        ("1,0", "above 0"),
        ("nan,1", "a finite centre"),
        ("1,inf", "finite width"),
    ):
        with pytest.raises(InputError, match=message):
            parse_window(text)
