"""Areas under precision-recall curves of ranked detections, for many weightings of the images at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reticent.records import Detections
from reticent.training.evaluation.matching import IOU_THRESHOLDS, Ranked, match, rank
from reticent.training.evaluation.statistics import Flags, Floats, Statistic, macro

_RECALLS = np.linspace(0, 1, 101)
_BLOCK_VALUES = 4_000_000


@dataclass(frozen=True)
class CountingCurve:
    """Recall and precision behind each detection, and the area under the curve."""

    recall: Floats
    precision: Floats
    """The largest at this recall or a higher one."""
    area: float

    def precision_at(self, recall: float) -> float:
        """Precision at the first point of a higher recall; 0 if none is reached."""
        beyond = np.flatnonzero(self.recall > recall)
        return float(self.precision[beyond[0]]) if len(beyond) else 0.0


def average_precision(ranked: Ranked, threshold: int) -> Statistic:
    """COCO's average precision at `IOU_THRESHOLDS[threshold]`: mean of the precisions at 101 recalls."""

    def area(recall: Floats, precision: Floats) -> Floats:
        reached = np.concatenate([precision, np.zeros((len(precision), 1))], 1)
        places = [np.searchsorted(row, _RECALLS) for row in recall]
        return np.take_along_axis(reached, np.stack(places), 1).mean(1)

    return _area_under(ranked, ranked.hits[threshold], area)


def mean_precision(ranked: Ranked) -> Statistic:
    """COCO's average precision over IoU 0.5 to 0.95."""
    return macro([average_precision(ranked, threshold) for threshold in range(len(IOU_THRESHOLDS))])


def counting_area(ranked: Ranked, *, start_at_zero: bool = True) -> Statistic:
    """Area under the counting curve by the trapezoid rule (Ziller et al. 2019); see `counting_curve`."""

    def area(recall: Floats, precision: Floats) -> Floats:
        if start_at_zero and recall.shape[1]:
            recall = np.concatenate([np.zeros((len(recall), 1)), recall], 1)
            precision = np.concatenate([precision[:, :1], precision], 1)
        return np.asarray(np.trapezoid(precision, recall, axis=1))

    return _area_under(ranked, ranked.counted, area)


def counting_curve(
    found: Sequence[Detections], truth: Sequence[Detections], classes: int, *, start_at_zero: bool = True
) -> CountingCurve:
    """Precision against recall if a detection is right while its image has objects of its class left.

    Where boxes lie does not matter. Detections of all images and classes are pooled and sorted by score; of equal
    scores the earlier image's come first, then the lower class's. As published the curve begins at its first point, of
    recall 1 / objects where the first detection is right, so that perfect detections of N objects have an area of 1 - 1
    / N: `start_at_zero=False`. (The published code also ends the curve at recall + 1e-8, which adds less than 1e-8.)
    """
    ranked = rank(match(found, truth), range(classes))
    everything = np.ones((len(found), 1))
    recall, precision = next(_curves(ranked, ranked.counted, everything))
    statistic = counting_area(ranked, start_at_zero=start_at_zero)
    return CountingCurve(recall[0], precision[0], float(statistic(everything)[0]))


def mean_average_precision(
    found: Sequence[Detections], truth: Sequence[Detections], classes: int, iou: float | None = None
) -> Floats:
    """COCO's average precision of each class, (classes,), over IoU 0.5 to 0.95 or at one of these; NaN without objects.

    Raises:
        ValueError: `iou` is none of COCO's thresholds.
    """
    matched, everything = match(found, truth), np.ones((len(found), 1))
    values = []
    for ranked in (rank(matched, [k]) for k in range(classes)):
        if iou is None:
            statistic = mean_precision(ranked)
        else:
            statistic = average_precision(ranked, [round(t, 2) for t in IOU_THRESHOLDS].index(iou))
        values.append(float(statistic(everything)[0]))
    return np.array(values)


def curve_points(ranked: Ranked, hits: Flags) -> tuple[Floats, Floats]:
    """Recall and precision of unweighted images."""
    recall, precision = next(_curves(ranked, hits, np.ones((len(ranked.objects), 1))))
    return recall[0], precision[0]


def _area_under(ranked: Ranked, hits: Flags, area: Callable[[Floats, Floats], Floats]) -> Statistic:
    def statistic(weights: Floats) -> Floats:
        if not ranked.objects.any():
            return np.full(weights.shape[1], np.nan)
        areas = np.concatenate([area(*curves) for curves in _curves(ranked, hits, weights)])
        return np.where(ranked.objects @ weights > 0, areas, np.nan)

    return statistic


def _curves(ranked: Ranked, hits: Flags, weights: Floats) -> Iterator[tuple[Floats, Floats]]:
    """Recall and enveloped precision, each (weightings, D), for a block of weightings at a time."""
    block = max(1, _BLOCK_VALUES // max(1, len(ranked.image)))
    for start in range(0, weights.shape[1], block):
        own = weights[:, start : start + block]
        drawn = np.ascontiguousarray(own[ranked.image].T)
        true, every = np.cumsum(drawn * hits, 1), np.cumsum(drawn, 1)
        total = (ranked.objects @ own)[:, None]
        recall = np.divide(true, total, out=np.zeros_like(true), where=total > 0)
        precision = np.divide(true, every, out=np.zeros_like(true), where=every > 0)
        yield recall, np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
