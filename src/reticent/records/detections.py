"""Objects that a detector found in an image. Of a patient: personal data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from reticent.records.files import write_file


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


@dataclass(frozen=True)
class DetectionExample:
    """A held-out image with what was found and what was annotated."""

    image: np.ndarray
    """(C, H, W)."""
    found: Detections
    truth: Detections
    classes: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write an NPZ file, its owner's alone."""
        arrays = {
            f"{name} {part}": getattr(objects, part)
            for name, objects in (("found", self.found), ("truth", self.truth))
            for part in ("boxes", "scores", "classes")
        }

        def write(aside: Path) -> None:
            with aside.open("wb") as file:
                np.savez_compressed(file, image=self.image, names=json.dumps(self.classes), **arrays)

        write_file(path, write, mode=0o600)

    @classmethod
    def load(cls, path: Path) -> Self:
        """What `save` wrote."""
        with np.load(path) as file:
            found, truth = (
                Detections(*(file[f"{name} {part}"] for part in ("boxes", "scores", "classes")))
                for name in ("found", "truth")
            )
            return cls(file["image"], found, truth, tuple(json.loads(str(file["names"]))))
