"""What an annotation file says of an image, in the one form that the others are converted by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1) in pixels, 0-based and half-open, so that x1 - x0 is the width."""
Effect = Literal["left out", "dropped", "clipped", "scaled", "cut", "kept"]


@dataclass(frozen=True)
class Problem:
    """Something wrong in an annotation file, where it is (a line, or a place as "annotations[3]"), and what was done.

    | effect | |
    |---|---|
    | left out | the image: what is on it cannot be known, or there is no image |
    | dropped | the box |
    | clipped | the box, to the image |
    | scaled | all boxes of the image, which is stored in another size than was annotated |
    | cut | the objects beyond the declared maximum |
    | kept | everything; other tools may fail over it |
    """

    file: Path
    place: int | str | None
    image: str
    reason: str
    effect: Effect

    @property
    def where(self) -> str:
        """File and place, as "files.txt:3"."""
        return str(self.file) if self.place is None else f"{self.file}:{self.place}"


@dataclass(frozen=True)
class Annotation:
    """The objects of one image, as they are written: not clipped, and not compared with the image.

    `image` is where the file should be; `name` is unique in its set. `shape` (height, width) is that of the annotated
    image where the file tells; `places` says where each box stands. `subject`, `split` and `time` (seconds since 1970,
    UTC) are None where unknown.
    """

    name: str
    image: Path
    boxes: tuple[Box, ...]
    labels: tuple[str, ...]
    file: Path
    places: tuple[int | str, ...]
    place: int | str | None = None
    """Where the image stands in its file."""
    shape: tuple[int, int] | None = None
    subject: str | None = None
    split: str | None = None
    time: float | None = None
    id: int | None = None
    """Of the image in a COCO file."""


@dataclass(frozen=True)
class AnnotationSet:
    """All images of an annotation, their classes in the order of their numbers, and what was wrong."""

    classes: tuple[str, ...]
    images: Sequence[Annotation]
    problems: Sequence[Problem]
