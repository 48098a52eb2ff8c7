"""Arrays come back from the file as they were appended."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from reticent.data.stored_arrays import ArrayWriter, StoredArrays


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.lists(array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=4), min_size=1, max_size=5),
    data=st.data(),
)
def test_arrays_of_any_shapes_come_back(tmp_path_factory, shapes, data):
    path = tmp_path_factory.mktemp("stored") / "values"
    written = [data.draw(arrays(np.float32, shape, elements=st.floats(-9, 9, width=32))) for shape in shapes]
    with ArrayWriter(path) as writer:
        for array in written:
            writer.append(array)
    stored = StoredArrays(path)
    for i, array in enumerate(written):
        np.testing.assert_array_equal(stored[i], array, strict=True)


def test_gaps_are_empty_and_equal_shapes_stack(tmp_path):
    with ArrayWriter(tmp_path / "mask") as writer:
        for at in (2, 3):
            writer.append(np.full((2, 3), at, np.uint8), at=at)
    stored = StoredArrays(tmp_path / "mask")
    assert stored[0].size == stored[1].size == 0
    np.testing.assert_array_equal(stored.stack([3, 2])[:, 0, 0], [3, 2])
    with pytest.raises(ValueError, match="same shape"):
        stored.stack([0, 3])
