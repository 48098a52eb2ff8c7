"""Which detections hit an object: by overlap as COCO does it, and by count alone as Ziller et al. 2019 do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reticent.records import Detections
from reticent.training.evaluation.statistics import Flags, Floats

IOU_THRESHOLDS = tuple((0.5 + 0.05 * np.arange(10)).tolist())
MOST = 100
"""Detections of an image and class that COCO looks at."""


@dataclass(frozen=True)
class Ranked:
    """Detections of several images, the highest score first; of equal scores the earlier image's, then its order."""

    image: NDArray[np.intp]
    """(D,)"""
    hits: Flags
    """Whether each found an object that none of higher score had found, (T, D): at each IoU threshold."""
    counted: Flags
    """The same if any object of its class in the image will do, (D,)."""
    objects: Floats
    """Number of objects in each image, (n,)."""


def intersection_over_union(first: Floats, second: Floats) -> Floats:
    """IoU of boxes (n, 4) and (m, 4), shape (n, m); 0 where neither has an area."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = (high - low).clip(0).prod(2)
    union = _area(first)[:, None] + _area(second)[None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def match(found: Sequence[Detections], truth: Sequence[Detections]) -> list[dict[int, dict[str, Any]]]:
    """Of each image and class, which detections match at each of COCO's IoU thresholds (Lin et al. 2014), by MONAI.

    From the highest score down, each takes the free object that it overlaps most, if by the threshold.
    """
    from monai.apps.detection.metrics.matching import matching_batch

    boxes, classes = zip(*((each.boxes.astype(float), each.classes) for each in truth), strict=True)
    matched: list[dict[int, dict[str, Any]]] = matching_batch(
        iou_fn=intersection_over_union,
        iou_thresholds=IOU_THRESHOLDS,
        pred_boxes=[each.boxes.astype(float) for each in found],
        pred_classes=[each.classes for each in found],
        pred_scores=[each.scores for each in found],
        gt_boxes=boxes,
        gt_classes=classes,
        max_detections=MOST,
    )
    return matched


def rank(matched: Sequence[dict[int, dict[str, Any]]], classes: Sequence[int]) -> Ranked:
    """The detections of these classes, pooled over the images."""
    image, scores, hits, counted = list[np.ndarray](), list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    objects = np.zeros(len(matched))
    for number, by_class in enumerate(matched):
        for own in (by_class[k] for k in classes if k in by_class):
            there, many = len(own["gtIgnore"]), len(own["dtScores"])
            objects[number] += there
            image.append(np.full(many, number))
            scores.append(own["dtScores"])
            hits.append(own["dtMatches"].reshape(len(IOU_THRESHOLDS), many) > 0)
            counted.append(np.arange(many) < there)
    if not image:
        return Ranked(np.zeros(0, int), np.zeros((len(IOU_THRESHOLDS), 0), bool), np.zeros(0, bool), objects)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return Ranked(
        np.concatenate(image)[order], np.concatenate(hits, 1)[:, order], np.concatenate(counted)[order], objects
    )


def _area(boxes: Floats) -> Floats:
    area: Floats = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1)
    return area
