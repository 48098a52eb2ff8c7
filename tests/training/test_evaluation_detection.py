"""Average precision and the counting metric: hand examples, pycocotools, and what counting does not see."""

import contextlib
import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data.box_utils import batched_nms, box_iou
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from reticent.records import Detections
from reticent.training import counting_curve, mean_average_precision
from reticent.training.evaluation import evaluate_detection
from reticent.training.evaluation.matching import intersection_over_union, match, rank
from reticent.training.evaluation.precision_recall import average_precision, counting_area
from reticent.training.tasks.detection import suppressed

NOTHING = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))


def objects(*things, scores=None):
    """Of (class, x0, y0, x1, y1)."""
    if not things:
        return NOTHING
    rows = np.array(things, float)
    given_scores = np.ones(len(rows)) if scores is None else np.array(scores, float)
    return Detections(rows[:, 1:], given_scores, rows[:, 0].astype(int))


def random_boxes(rng, count):
    corner = rng.uniform(0, 80, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(1, 40, (count, 2))], 1)


def random_case(seed, images=12, classes=3, most=9):
    """Random truth; detections near some of it, elsewhere, of the wrong class, or missing."""
    rng = np.random.default_rng(seed)
    found, truth = [], []
    for _ in range(images):
        boxes, labels = random_boxes(rng, many := int(rng.integers(0, most))), rng.integers(0, classes, many)
        truth.append(Detections(boxes, np.ones(many), labels))
        kept = rng.random(many) < 0.8
        near = boxes[kept] + rng.normal(0, 3, (kept.sum(), 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        wrong = np.where(rng.random(kept.sum()) < 0.15, rng.integers(0, classes, kept.sum()), labels[kept])
        extra = int(rng.integers(0, 5))
        all_boxes = np.concatenate([near, random_boxes(rng, extra)])
        scores = np.round(rng.random(len(all_boxes)), 1)  # with ties
        order = np.argsort(-scores, kind="stable")
        all_labels = np.concatenate([wrong, rng.integers(0, classes, extra)])
        found.append(Detections(all_boxes[order], scores[order], all_labels[order]))
    return found, truth


def by_pycocotools(found, truth, classes):
    """Precision (10 thresholds, 101 recalls, classes) of all areas."""
    images = [{"id": n, "width": 200, "height": 200} for n in range(len(truth))]
    annotations, results = [], []
    for n, (own, there) in enumerate(zip(found, truth, strict=True)):
        for box, label in zip(there.boxes, there.classes, strict=True):
            x0, y0, x1, y1 = box.tolist()
            annotations.append({
                "id": len(annotations) + 1, "image_id": n, "category_id": int(label), "iscrowd": 0,
                "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0),
            })  # fmt: skip
        for box, score, label in zip(own.boxes, own.scores, own.classes, strict=True):
            x0, y0, x1, y1 = box.tolist()
            row = {"image_id": n, "category_id": int(label), "bbox": [x0, y0, x1 - x0, y1 - y0], "score": float(score)}
            results.append(row)
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": k} for k in range(classes)],
        }
        ground.createIndex()
        evaluation = COCOeval(ground, ground.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][:, :, :, 0, -1]


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_is_that_of_pycocotools(seed):
    found, truth = random_case(seed)
    precision = by_pycocotools(found, truth, 3)
    expected = precision.mean(1)  # (thresholds, classes)
    np.testing.assert_allclose(mean_average_precision(found, truth, 3), expected.mean(0), atol=1e-6)
    np.testing.assert_allclose(mean_average_precision(found, truth, 3, iou=0.5), expected[0], atol=1e-6)
    np.testing.assert_allclose(mean_average_precision(found, truth, 3, iou=0.75), expected[5], atol=1e-6)


def test_a_drawn_image_counts_as_often_as_it_was_drawn():
    """Weights (2, 0, 1, ...) give what pycocotools gives for images repeated so often."""
    found, truth = random_case(8)
    weights = np.random.default_rng(0).integers(0, 3, len(found)).astype(float)
    repeated = np.repeat(np.arange(len(found)), weights.astype(int))
    expected = by_pycocotools([found[i] for i in repeated], [truth[i] for i in repeated], 3).mean(1)
    matched = match(found, truth)
    for k in range(3):
        area = average_precision(rank(matched, [k]), 0)(np.stack([weights, np.ones(len(found))], 1))
        # ties of scores inside an image that is drawn twice are ordered otherwise there
        assert area[0] == pytest.approx(expected[0, k], abs=0.02)
        assert area[1] == pytest.approx(mean_average_precision(found, truth, 3, iou=0.5)[k], abs=1e-12)


@given(st.integers(0, 2**20))
def test_overlap_is_that_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    first, second = random_boxes(rng, 5), random_boxes(rng, 7)

    def wide(boxes):
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)

    np.testing.assert_allclose(
        intersection_over_union(first, second), coco_mask.iou(wide(first), wide(second), [0] * 7), rtol=1e-9, atol=1e-12
    )


def test_overlap_in_closed_form():
    boxes = np.array([[0.0, 0, 2, 2], [1, 1, 3, 3], [2, 0, 4, 2], [5, 5, 5, 5]])
    np.testing.assert_allclose(intersection_over_union(boxes[:1], boxes), [[1, 1 / 7, 0, 0]])
    assert intersection_over_union(boxes[3:], boxes[3:]) == 0


def test_suppression_keeps_the_highest_score_of_what_overlaps():
    boxes = [(0, 0, 0, 10, 10), (1, 0, 0, 10, 10), (0, 0, 0, 10, 8), (0, 5, 0, 15, 10)]
    found = objects(*boxes, scores=[0.9, 0.8, 0.7, 0.6])
    assert suppressed(found, 0.5, by_class=True).scores.tolist() == [0.9, 0.8, 0.6]
    assert suppressed(found, 0.98, by_class=False).scores.tolist() == [0.9, 0.7, 0.6]
    assert suppressed(found, 0.79, by_class=False).scores.tolist() == [0.9, 0.6]
    assert len(suppressed(NOTHING, 0.5, by_class=True).scores) == 0


@pytest.mark.parametrize("limit", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("by_class", [True, False])
def test_suppression_is_that_of_monai(limit, by_class):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        found = Detections(random_boxes(rng, 25), np.sort(rng.random(25))[::-1].copy(), rng.integers(0, 2, 25))
        labels = found.classes if by_class else np.zeros(25, int)
        theirs = np.sort(batched_nms(found.boxes, found.scores, labels, limit))
        np.testing.assert_array_equal(suppressed(found, limit, by_class=by_class).scores, found.scores[theirs])


def perfect(seed=5):
    _, truth = random_case(seed)
    scores = np.random.default_rng(seed)
    found = []
    for own in truth:
        drawn = scores.random(len(own.classes))
        order = np.argsort(-drawn)
        found.append(Detections(own.boxes[order], drawn[order], own.classes[order]))
    return found, truth


def test_perfect_detections_have_an_area_of_one_or_as_published_one_object_less():
    found, truth = perfect()
    many = sum(len(own.classes) for own in truth)
    assert counting_curve(found, truth, 3).area == pytest.approx(1, abs=1e-12)
    assert counting_curve(found, truth, 3, start_at_zero=False).area == pytest.approx(1 - 1 / many, abs=1e-12)
    np.testing.assert_allclose(mean_average_precision(found, truth, 3), 1)


def test_the_flaw_of_the_published_area_costs_a_blood_cell_set_one_object_in_944():
    truth = [objects(*[(0, k, 0, k + 5, 5) for k in range(118)])] * 8
    area = counting_curve(truth, truth, 1, start_at_zero=False).area
    assert area == pytest.approx(1 - 1 / (8 * 100 + 8 * 18), abs=0.16)  # the rest is beyond 100 detections an image
    few = [objects(*[(0, k, 0, k + 5, 5) for k in range(59)])] * 16
    assert counting_curve(few, few, 1, start_at_zero=False).area == pytest.approx(1 - 1 / 944, abs=1e-12)


def test_counting_does_not_see_where_boxes_lie():
    found, truth = perfect()
    moved = [Detections(own.boxes + 60, own.scores, own.classes) for own in found]
    assert counting_curve(moved, truth, 3).area == counting_curve(found, truth, 3).area
    assert mean_average_precision(moved, truth, 3, iou=0.5).mean() < 0.1
    assert mean_average_precision(found, truth, 3, iou=0.5).mean() == pytest.approx(1)


def hand_example():
    """Image 1 has one A, image 2 two B; in the order of scores: 1 A, 2 B, 1 A, 2 B."""
    truth = [objects((0, 0, 0, 9, 9)), objects((1, 0, 0, 9, 9), (1, 20, 0, 29, 9))]
    found = [
        objects((0, 0, 0, 9, 9), (0, 50, 0, 59, 9), scores=[0.9, 0.7]),
        objects((1, 0, 0, 9, 9), (1, 20, 0, 29, 9), scores=[0.8, 0.6]),
    ]
    return found, truth


def test_the_hand_example():
    curve = counting_curve(*hand_example(), 2)
    np.testing.assert_allclose(curve.recall, [1 / 3, 2 / 3, 2 / 3, 1])
    np.testing.assert_allclose(curve.precision, [1, 1, 3 / 4, 3 / 4])
    assert curve.area == pytest.approx(2 / 3 + 1 / 3 * 3 / 4)
    assert counting_curve(*hand_example(), 2, start_at_zero=False).area == pytest.approx(1 / 3 + 1 / 3 * 3 / 4)
    assert curve.precision_at(0.6) == 1
    assert curve.precision_at(2 / 3) == 0.75
    assert curve.precision_at(1) == 0


def test_a_false_first_detection_costs_the_same_with_or_without_the_start():
    """Recall 0 is then a point of the curve itself, so that nothing is cut off in front."""
    found = [objects((1, 0, 0, 9, 9), (0, 0, 0, 9, 9), scores=[0.9, 0.8])]
    truth = [objects((0, 0, 0, 9, 9))]
    assert counting_curve(found, truth, 2).area == pytest.approx(0.5)
    assert counting_curve(found, truth, 2, start_at_zero=False).area == pytest.approx(0.5)


def test_equal_scores_keep_their_order_and_move_the_area_by_at_most_their_block():
    truth = [objects((0, 0, 0, 9, 9))] * 10
    right, wrong = objects((0, 0, 0, 9, 9), scores=[0.5]), objects((1, 0, 0, 9, 9), scores=[0.5])
    areas = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(10)
        found = [right if k < 6 else wrong for k in order]
        # the same detections of the same score: only which images come first differs
        areas.append(counting_curve(found, truth, 2).area)
        assert counting_curve(found, truth, 2).area == areas[-1]
    best = counting_curve([right] * 6 + [wrong] * 4, truth, 2).area
    worst = counting_curve([wrong] * 4 + [right] * 6, truth, 2).area
    assert best == pytest.approx(0.6)
    assert worst == pytest.approx(0.6 * 0.6)  # the envelope lifts all of the block to its last precision
    assert worst - 1e-12 <= min(areas) < max(areas) <= best + 1e-12


def test_metrics_of_a_split():
    found, truth = hand_example()
    many_found, many_truth = found * 12, truth * 12
    subjects = [f"clip {k // 2}" for k in range(24)]
    sexes = [{"place": "left" if k % 2 else "right"} for k in range(24)]
    result = evaluate_detection(many_found, many_truth, subjects, sexes, ("A", "B"), "test")
    assert (result.subjects, result.records) == (12, 24)
    values = {name: measured.value for name, measured in result.metrics.items()}
    assert values["ap50"] == pytest.approx(1)  # the wrong A comes last
    assert values["count_error"] == 0.5
    assert values["exactly_right"] == 0.5
    assert values["counting_area"] == pytest.approx(2 / 3 + 1 / 3 * 3 / 4)
    groups = {group.name: group for group in result.groups}
    assert groups["A"].subjects == 12
    assert groups["A"].metrics["count_error"].value == 0.5
    assert groups["B"].metrics["ap"].value == pytest.approx(1)
    assert groups["place=left"].metrics["count_error"].value == 0
    assert result.curves["counting"][-1] == pytest.approx((1, 0.75))
    small = evaluate_detection(found, truth, ["1", "2"], [{}, {}], ("A", "B"), "val")
    assert [group.subjects for group in small.groups] == [None, None]


def test_intervals_draw_subjects_and_hold_their_value():
    found, truth = random_case(11, images=40)
    by_image = evaluate_detection(found, truth, [str(k) for k in range(40)], [{}] * 40, "abc", "test")
    by_clip = evaluate_detection(found * 3, truth * 3, [str(k % 40) for k in range(120)], [{}] * 120, "abc", "test")
    for measured in by_image.metrics.values():
        assert measured.lower <= measured.value <= measured.upper
        assert measured.upper - measured.lower > 0
    for name in ("count_error", "exactly_right"):  # three like frames a clip tell no more than one
        assert by_clip.metrics[name] == by_image.metrics[name]


def test_without_detections_or_objects_nothing_breaks():
    empty = evaluate_detection([NOTHING] * 2, [NOTHING] * 2, ["a", "b"], [{}, {}], ("A",), "test")
    assert empty.metrics["map"].value is None
    assert empty.metrics["exactly_right"].value == 1
    missed = evaluate_detection([NOTHING] * 2, [objects((0, 0, 0, 9, 9)), NOTHING], ["a", "b"], [{}, {}], "A", "test")
    assert missed.metrics["map"].value == missed.metrics["counting_area"].value == 0
    assert missed.metrics["count_error"].value == 0.5
    false = evaluate_detection([objects((0, 0, 0, 9, 9))], [NOTHING], ["a"], [{}], "A", "test")
    assert false.metrics["counting_area"].value is None
    assert np.isnan(mean_average_precision([NOTHING], [NOTHING], 1)).all()


def test_areas_do_not_depend_on_the_size_of_blocks(monkeypatch):
    found, truth = random_case(3)
    ranked = rank(match(found, truth), range(3))
    weights = np.random.default_rng(1).integers(0, 3, (len(found), 17)).astype(float)
    whole = counting_area(ranked)(weights)
    monkeypatch.setattr("reticent.training.evaluation.precision_recall._BLOCK_VALUES", 100)
    np.testing.assert_array_equal(counting_area(ranked)(weights), whole)


def test_monai_s_overlap_agrees_in_single_precision():
    rng = np.random.default_rng(0)
    first, second = random_boxes(rng, 30), random_boxes(rng, 40)
    theirs = box_iou(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    np.testing.assert_allclose(intersection_over_union(first, second), theirs, atol=1e-6)
