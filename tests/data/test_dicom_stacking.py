import numpy as np
import pytest
from dicom_tree import AXIAL, CORONAL
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

from reticent.data.dicom.stacking import UnevenStackError, stack

SPACING = (0.75, 0.5)


@st.composite
def stacks(draw):
    """Positions of an even stack in any plane, its orientation, and the order in which its slices are given."""
    turn = Rotation.from_euler("xyz", draw(st.tuples(*[st.floats(-180, 180)] * 3)), degrees=True).as_matrix()
    count, step = draw(st.integers(2, 30)), draw(st.floats(0.1, 20))
    origin = np.array(draw(st.tuples(*[st.floats(-500, 500)] * 3)))
    positions = origin + np.outer(np.arange(count) * step, turn[:, 2])
    return positions, turn[:, :2].T.ravel(), draw(st.permutations(range(count)))


@settings(max_examples=80, deadline=None)
@given(stacks(), st.randoms())
def test_slices_in_any_order_and_plane_come_in_the_order_of_space(made, random):
    positions, orientation, given_order = made
    rounded = positions.round(6)  # as decimal strings hold them
    stacked = stack(rounded[list(given_order)], orientation.round(6), SPACING)
    assert [given_order[i] for i in stacked.order] == list(range(len(positions)))
    # The affine leads (column, row, slice) to patient coordinates (DICOM PS3.3, equation C.7.6.2.1-1), turned to RAS.
    c, r, k = random.randrange(100), random.randrange(100), random.randrange(len(positions))
    place = positions[k] + c * SPACING[1] * orientation[:3] + r * SPACING[0] * orientation[3:]
    np.testing.assert_allclose(apply_affine(stacked.affine, (c, r, k)), place * (-1, -1, 1), atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(stacks().filter(lambda made: len(made[0]) >= 5), st.data())
def test_a_slice_taken_out_is_missed_and_a_doubled_one_noticed(made, data):
    positions, orientation, _ = made
    k = data.draw(st.integers(1, len(positions) - 2))
    with pytest.raises(UnevenStackError, match="missing slices: 1, "):
        stack(np.delete(positions, k, 0), orientation, SPACING)
    with pytest.raises(UnevenStackError, match="duplicate slices: 1 of"):
        stack(np.vstack([positions, positions[k]]), orientation, SPACING)


def heights(*values):
    return [(0, 0, z) for z in values]


def test_uneven_sheared_and_shifted_stacks_are_told_apart():
    for positions, message in (
        (heights(0, 2, 4, 7, 9, 11), r"non-uniform spacing: 2 to 3 mm"),
        (heights(0, 1, 2, 2.9, 3.8, 4.7, 5.6, 6.5), "non-uniform"),
        ([(0, 0.3 * z, z) for z in range(8)], r"sheared stack: tilted by 16.7 degrees"),
        ([(0, 5.0 * (z == 3), z) for z in range(8)], "shifted against each other"),
        (heights(5), "one slice only"),
        (heights(0, 1, np.nan), "no numbers"),
    ):
        with pytest.raises(UnevenStackError, match=message):
            stack(positions, AXIAL, SPACING)
    with pytest.raises(UnevenStackError, match="no right angle"):
        stack(heights(0, 1), (1, 0, 0, 1, 0, 0), SPACING)
    with pytest.raises(UnevenStackError, match="pixel spacing is 0 x 1 mm"):
        stack(heights(0, 1), AXIAL, (0, 1))


def test_rounded_positions_are_still_even():
    assert stack(heights(*np.round(np.arange(200) * 0.6251, 2)), AXIAL, SPACING).order == tuple(range(200))
    assert stack([(0, y, 0) for y in range(4)], CORONAL, SPACING).order == (0, 1, 2, 3)
