"""Decodes images, and gives their boxes as arrays of one shape."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reticent.data.detection.annotation import Box
from reticent.data.files import FileLocator, FileReader


@dataclass(frozen=True)
class BoxLocator:
    """The image of one record, its boxes in the image's pixels, and their class indices."""

    image: Path
    boxes: tuple[Box, ...]
    objects: tuple[int, ...]
    id: int | None = None
    """Of the image in a COCO file."""


@dataclass(frozen=True)
class BoxReader:
    """Decodes as `FileReader` does; targets are "boxes" (most, 4) float32 and "objects" (most,) int64.

    Boxes are (x0, y0, x1, y1) in pixels, 0-based and half-open. Behind an image's objects there are boxes of zeros with
    class -1.
    """

    channels: int
    most: int

    def shape(self, locator: BoxLocator) -> tuple[int, ...]:
        return self._files.shape(FileLocator(locator.image))

    def spacing(self, locator: BoxLocator) -> tuple[float, ...] | None:
        return self._files.spacing(FileLocator(locator.image))

    def decode(self, locator: BoxLocator) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        inputs, _ = self._files.decode(FileLocator(locator.image))
        boxes, objects = np.zeros((self.most, 4), np.float32), np.full(self.most, -1, np.int64)
        boxes[: len(locator.boxes)] = np.asarray(locator.boxes, np.float32).reshape(-1, 4)
        objects[: len(locator.objects)] = locator.objects
        return inputs, {"boxes": boxes, "objects": objects}

    def digest(self, locator: BoxLocator) -> bytes:
        return self._files.digest(FileLocator(locator.image))

    def stamp(self, locator: BoxLocator) -> str:
        drawn = hashlib.sha256(repr((self.most, locator.boxes, locator.objects)).encode()).hexdigest()
        return f"{self._files.stamp(FileLocator(locator.image))} {drawn[:16]}"

    @property
    def _files(self) -> FileReader:
        return FileReader(self.channels)
