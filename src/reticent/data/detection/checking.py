"""Annotations against their images: boxes are clipped, and what cannot be one is dropped, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Literal

import numpy as np

from reticent.data.detection.annotation import Annotation, Box, Problem
from reticent.data.files import read_header
from reticent.errors import InputError, first_line


def checked(image: Annotation, classes: Collection[str], problems: list[Problem]) -> Annotation | None:
    """The annotation in the pixels of its image, with boxes of these classes inside of it; None if it is left out.

    What was wrong is added to `problems`.
    """
    if not image.image.is_file():
        problems.append(Problem(image.file, image.place, image.name, "no such image", "left out"))
        return None
    try:
        height, width = read_header(image.image)[0]
    except (InputError, ValueError) as error:
        problems.append(Problem(image.file, image.place, image.name, first_line(error), "left out"))
        return None
    scales = _scales(image, (height, width))
    if scales is None:
        problems.append(Problem(image.file, image.place, image.name, "annotated in another shape", "left out"))
        return None
    if scales != (1.0, 1.0):
        problems.append(Problem(image.file, image.place, image.name, "annotated in another size", "scaled"))
    kept = []
    for box, label, place in zip(image.boxes, image.labels, image.places, strict=True):
        scaled = (box[0] * scales[1], box[1] * scales[0], box[2] * scales[1], box[3] * scales[0])
        if (wrong := _wrong(scaled, label, (height, width), classes)) is not None:
            effect, reason = wrong
            problems.append(Problem(image.file, place, image.name, reason, effect))
            if effect == "dropped":
                continue
        kept.append((_clipped(scaled, (height, width)), label, place))
    return replace(
        image,
        boxes=tuple(box for box, _, _ in kept),
        labels=tuple(label for _, label, _ in kept),
        places=tuple(place for _, _, place in kept),
        shape=(height, width),
    )


def _scales(image: Annotation, shape: tuple[int, int]) -> tuple[float, float] | None:
    """What boxes are multiplied by along y and x; None if the image was annotated in other proportions."""
    if image.shape is None or image.shape == shape:
        return 1.0, 1.0
    scales = shape[0] / image.shape[0], shape[1] / image.shape[1]
    return scales if abs(scales[0] - scales[1]) * max(image.shape) <= 1 else None  # one pixel of rounding


def _wrong(
    box: Box, label: str, shape: tuple[int, int], classes: Collection[str]
) -> tuple[Literal["dropped", "clipped"], str] | None:
    """What is wrong with a box, and what it needs."""
    if label not in classes:
        return "dropped", f"unknown class {label}"
    if not all(map(math.isfinite, box)):
        return "dropped", "a corner that is no number"
    if box[2] <= box[0] or box[3] <= box[1]:
        return "dropped", "no width or height"
    clipped = _clipped(box, shape)
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        return "dropped", "outside the image"
    return None if clipped == box else ("clipped", "partly outside the image")


def _clipped(box: Box, shape: tuple[int, int]) -> Box:
    x0, y0, x1, y1 = np.clip(box, 0, [shape[1], shape[0], shape[1], shape[0]]).tolist()
    return x0, y0, x1, y1
