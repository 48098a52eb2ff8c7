"""Boxes move with their images: padded to a size, cut to a spacing, clipped."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.data import Preprocessing, Record, clip_boxes
from reticent.data.detection import Placement

sides = st.integers(8, 80)


def painted(shape, box):
    """A record of a black image with one bright rectangle, and its box."""
    image = np.zeros((1, *shape), np.float32)
    x0, y0, x1, y1 = box
    image[:, y0:y1, x0:x1] = 1
    targets = {"boxes": np.array([box, [0] * 4], np.float32), "objects": np.array([1, -1])}
    return Record("s", {"image": image}, targets, {}, (1.0, 1.0))


def bright_box(image, level):
    rows, columns = (np.flatnonzero((image > level).any(axis)) for axis in (1, 0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize("size", [(32, 32), (48, 96), (20, 64), (120, 120)])
def test_a_painted_rectangle_stays_in_its_box_when_the_image_is_padded_to_a_size(size):
    record = painted((48, 80), (16, 8, 56, 40))
    done = Preprocessing(size, keep_aspect=True).apply(record)
    image, box = done.inputs["image"][0], done.targets["boxes"][0]
    assert image.shape == size
    np.testing.assert_allclose(box, bright_box(image, 0), atol=1)
    width, height = box[2:] - box[:2]
    assert abs(width / height - 40 / 32) < 0.06
    assert done.targets["objects"].tolist() == [1, -1]


def test_nothing_is_lost_by_padding():
    done = Preprocessing((40, 40), keep_aspect=True).apply(painted((20, 80), (0, 0, 80, 20)))
    assert done.targets["boxes"][0].tolist() == [0, 15, 40, 25]


def test_objects_that_a_declared_spacing_cuts_off_are_none_of_the_image_any_more():
    record = painted((40, 40), (0, 0, 10, 10))
    done = Preprocessing((16, 16), spacing=(1.0,)).apply(record)
    assert done.targets["objects"].tolist() == [-1, -1]
    assert not done.targets["boxes"].any()
    cut = Preprocessing((30, 30), spacing=(1.0,)).apply(record)
    assert cut.targets["boxes"][0].tolist() == [0, 0, 5, 5]


@given(st.tuples(sides, sides), st.tuples(sides, sides), st.booleans())
def test_placement_takes_boxes_there_and_back(shape, size, keep_aspect):
    placement = Preprocessing(size, keep_aspect=keep_aspect).placement(shape, None)
    boxes = np.array([[0.0, 0.0, shape[1], shape[0]], [1.5, 2.0, 4.25, 7.0]])
    there = placement.forward(boxes)
    np.testing.assert_allclose(placement.backward(there), boxes, atol=1e-9)
    assert (there[0] >= -1e-9).all()
    assert (there[0] <= np.array([size[1], size[0]] * 2) + 1e-9).all()


def test_placement_scales_then_shifts():
    np.testing.assert_array_equal(Placement((2.0, 3.0), (1.0, -1.0)).forward(np.ones((1, 4))), [[2.0, 3.0, 2.0, 3.0]])


def test_clipping_drops_what_hardly_remains():
    boxes = np.array([[-10.0, 0, 10, 4], [-31, 0, 10, 4], [-30, 0, 10, 4], [3, 3, 3, 9], [0, 0, 0, 0], [2, 2, 5, 5]])
    clipped, objects = clip_boxes(boxes, np.array([0, 1, 2, 3, -1, 4]), (20, 20))
    assert objects.tolist() == [0, -1, 2, -1, -1, 4]  # a half, less than a quarter, a quarter
    assert clipped.tolist() == [[0, 0, 10, 4], [0] * 4, [0, 0, 10, 4], [0] * 4, [0] * 4, [2, 2, 5, 5]]


def test_what_was_padded_is_taken_off_again():
    mask = np.zeros((20, 40), np.int64)
    mask[5:15, 10:30] = 1
    options = Preprocessing((40, 40), keep_aspect=True)
    done = options.apply(Record("s", {"image": mask[None].astype(np.float32)}, {"mask": mask}, {}))
    assert done.targets["mask"].sum() == mask.sum()
    np.testing.assert_array_equal(options.uncut(done.targets["mask"][None], (20, 40), None)[0], mask)
