"""Segmentation metrics on held-out patients."""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt

from reticent.training.evaluation import evaluate_segmentation, segmentation_scores


def square(corner, side, label=1, size=16):
    mask = np.zeros((size, size), dtype=np.int64)
    mask[corner : corner + side, corner : corner + side] = label
    return mask


def test_dice_is_that_counted_by_hand():
    """Two 4 x 4 squares that share 3 x 3 pixels: 2 * 9 / 32."""
    dice, _ = segmentation_scores(square(2, 4), square(3, 4), 2, (1.0, 1.0))
    assert dice == pytest.approx([18 / 32])


def test_the_distance_is_in_the_units_of_the_spacing():
    target = np.zeros((32, 32), dtype=np.int64)
    target[8, 4:20] = 1
    shifted = np.roll(target, 3, axis=0)
    _, hd95 = segmentation_scores(shifted, target, 2, (0.5, 2.0))
    assert hd95 == pytest.approx([1.5])


def test_the_distance_equals_percentiles_of_distance_transforms():
    generator = np.random.default_rng(0)
    found, true = (np.pad(generator.random((12, 12, 12)) < 0.5, 2).astype(np.int64) for _ in range(2))
    _, hd95 = segmentation_scores(found, true, 2, (1.0, 1.5, 0.8))

    def edge(mask):
        return (mask == 1) & ~binary_erosion(mask == 1)

    def one_way(a, b):
        return np.percentile(distance_transform_edt(~edge(b), sampling=(1.0, 1.5, 0.8))[edge(a)], 95)

    assert hd95 == pytest.approx([max(one_way(found, true), one_way(true, found))], rel=1e-5)


def test_a_label_in_neither_mask_is_right_and_one_in_a_single_mask_has_no_distance():
    dice, hd95 = segmentation_scores(square(2, 4, label=2), square(2, 4, label=3), 5, (1.0, 1.0))
    np.testing.assert_array_equal(dice, [1, 0, 0, 1])
    np.testing.assert_array_equal(hd95, [0, np.nan, np.nan, 0])


def test_metrics_are_means_over_records_then_over_labels():
    dice = np.tile([[0.8, 0.4], [0.6, 0.2]], (10, 1))
    hd95 = np.tile([[2.0, np.nan], [4.0, 6.0]], (10, 1))
    subjects = [f"s{i}" for i in range(20)]
    attributes = [{"sex": "FM"[i % 2]} for i in range(20)]
    result = evaluate_segmentation(dice, hd95, subjects, attributes, ["background", "left", "right"], "test")
    assert result.metrics["dice"].value == pytest.approx(0.5)
    assert result.metrics["hd95"].value == pytest.approx((3 + 6) / 2)
    values = {group.name: group.metrics["dice"].value for group in result.groups}
    assert values == pytest.approx({"left": 0.7, "right": 0.3, "sex=F": 0.6, "sex=M": 0.4})


def test_small_groups_are_suppressed():
    attributes = [{"sex": "F" if i < 9 else "M"} for i in range(20)]
    scores = np.ones((20, 1))
    result = evaluate_segmentation(
        scores, scores, [f"s{i}" for i in range(20)], attributes, ["background", "a"], "test"
    )
    assert {group.name: group.subjects for group in result.groups} == {"a": 20, "sex=F": None, "sex=M": 11}
