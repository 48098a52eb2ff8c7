"""Detections as COCO results, and examples on disk."""

import numpy as np

from reticent.records import DetectionExample, Detections

FOUND = Detections(np.array([[1.0, 2, 4, 8], [0, 0, 2.5, 1]]), np.array([0.9, 0.4]), np.array([1, 0]))


def test_results_have_the_form_and_the_numbers_of_coco():
    rows = FOUND.to_coco(7, "a.png", ("cell", "clot"), {"cell": 10, "clot": 20})
    assert rows[0] == {
        "image_id": 7, "category_id": 20, "bbox": [1.0, 2.0, 3.0, 6.0], "score": 0.9, "file_name": "a.png",
        "category": "clot",
    }  # fmt: skip
    assert rows[1]["bbox"] == [0.0, 0.0, 2.5, 1.0]


def test_a_score_from_the_limit_on_counts():
    assert FOUND.above(0.4).classes.tolist() == [1, 0]
    assert FOUND.above(0.5).classes.tolist() == [1]


def test_an_example_comes_back_as_it_was_saved_for_its_owner_alone(tmp_path):
    image = np.random.default_rng(0).random((3, 5, 6), np.float32)
    example = DetectionExample(image, FOUND, FOUND.above(0.5), ("cell", "Weißbier"))
    example.save(tmp_path / "1.npz")
    loaded = DetectionExample.load(tmp_path / "1.npz")
    np.testing.assert_array_equal(loaded.image, image)
    assert loaded.classes == ("cell", "Weißbier")
    for part in ("boxes", "scores", "classes"):
        np.testing.assert_array_equal(getattr(loaded.found, part), getattr(FOUND, part))
    assert len(loaded.truth.scores) == 1
    assert (tmp_path / "1.npz").stat().st_mode & 0o777 == 0o600
