"""Objects that a detector found in an image. Of a patient: personal data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Detections:
    """Objects of one image, from the highest score to the lowest."""

    boxes: np.ndarray
    """(n, 4) as x0, y0, x1, y1 in pixels, 0-based and half-open."""
    scores: np.ndarray
    """(n,), 0 to 1."""
    classes: np.ndarray
    """(n,), indices."""

    def above(self, score: float) -> Detections:
        """Those of at least this score."""
        return self.at(self.scores >= score)

    def at(self, rows: np.ndarray) -> Detections:
        """Those in `rows`, a mask or indices."""
        return Detections(self.boxes[rows], self.scores[rows], self.classes[rows])

    def to_coco(self, image: int, file: str, names: Sequence[str], numbers: Mapping[str, int]) -> list[dict[str, Any]]:
        """In COCO's form for results: `bbox` as x, y, width, height, and the `numbers` of categories by name.

        `file_name` and `category` say in words what the numbers stand for.
        """
        return [
            {
                "image_id": image,
                "category_id": numbers[names[label]],
                "bbox": [round(float(v), 2) for v in (x0, y0, x1 - x0, y1 - y0)],
                "score": round(float(score), 6),
                "file_name": file,
                "category": names[label],
            }
            for (x0, y0, x1, y1), score, label in zip(self.boxes, self.scores, self.classes, strict=True)
        ]
