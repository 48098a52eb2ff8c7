"""Boxes when their image is clipped, resized and padded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

VISIBLE = 0.25
"""An object of which less than this share of its box is left inside the image is no object of it any more."""


def clip_boxes(boxes: np.ndarray, objects: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (..., 4) clipped to an image of `size` (height, width); what hardly remains (`VISIBLE`) becomes padding.

    Padding is a box of zeros of class -1.
    """
    limits = np.array([size[1], size[0], size[1], size[0]], boxes.dtype)
    clipped = np.clip(boxes, 0, limits)
    kept = (objects >= 0) & (_area(clipped) >= VISIBLE * _area(boxes)) & (_area(clipped) > 0)
    return np.where(kept[..., None], clipped, 0), np.where(kept, objects, -1)


@dataclass(frozen=True)
class Placement:
    """Where the pixels of an image went: `scale` and `shift` along y and x, so that new = scale * old + shift."""

    scale: tuple[float, float]
    shift: tuple[float, float]

    def forward(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (..., 4) in the new pixels."""
        return boxes * self._four(self.scale) + self._four(self.shift)

    def backward(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (..., 4) of the new image in the old pixels."""
        return (boxes - self._four(self.shift)) / self._four(self.scale)

    @staticmethod
    def _four(pair: tuple[float, float]) -> np.ndarray:
        return np.array([pair[1], pair[0], pair[1], pair[0]], np.float64)


def _area(boxes: np.ndarray) -> np.ndarray:
    area: np.ndarray = (boxes[..., 2] - boxes[..., 0]).clip(0) * (boxes[..., 3] - boxes[..., 1]).clip(0)
    return area
