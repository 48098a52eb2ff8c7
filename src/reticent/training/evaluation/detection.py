"""How well a detector does on held-out patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reticent.records import Detections, Measured, SplitMetrics
from reticent.training.evaluation.bootstrap import measure
from reticent.training.evaluation.groups import attribute_groups, group
from reticent.training.evaluation.matching import match, rank
from reticent.training.evaluation.precision_recall import average_precision, counting_area, curve_points, mean_precision
from reticent.training.evaluation.statistics import Flags, Floats, macro, mean

COUNTED_FROM = 0.4
"""Score from which an object counts as found; fixed and public (from BCCD), never chosen on the records."""
_POINTS = 200


def evaluate_detection(
    found: Sequence[Detections],
    truth: Sequence[Detections],
    subjects: Sequence[str],
    attributes: Sequence[Mapping[str, str]],
    classes: Sequence[str],
    split: str,
) -> SplitMetrics:
    """Metrics of one split, by class and by attribute, with intervals by bootstrap over subjects.

    | metric | |
    |---|---|
    | map | COCO's average precision over IoU 0.5 to 0.95 (Lin et al. 2014), mean of the classes |
    | ap50 | the same at IoU 0.5 |
    | counting_area | area under precision and recall of counts (Ziller et al. 2019); where boxes lie is not looked at |
    | count_error | objects too many or too few in an image, added up over classes, from a score of 0.4 on |
    | exactly_right | share of images in which every class has the right count |

    Means over classes leave out those without objects. A class has the same metrics, and `ap` for its `map`.

    Args:
        found, truth: objects of each record; scores of the truth do not matter.
    """
    cases = _Cases(match(found, truth), _counts(found, len(classes), COUNTED_FROM), _counts(truth, len(classes), 0.0))
    by_class = [
        group("class", name, subjects, cases.there[:, k] > 0, partial(_class_metrics, cases, k, subjects))
        for k, name in enumerate(classes)
    ]
    by_attribute = attribute_groups(subjects, attributes, lambda rows, members: _metrics(cases.among(rows), members))
    return SplitMetrics(
        split=split,
        subjects=len(set(subjects)),
        records=len(subjects),
        metrics=_metrics(cases, subjects),
        groups=(*by_class, *by_attribute),
        curves=_curves(cases),
    )


@dataclass(frozen=True)
class _Cases:
    matched: Sequence[dict[int, dict[str, Any]]]
    counted: NDArray[np.int64]
    """Objects found, (n, classes)."""
    there: NDArray[np.int64]

    @property
    def classes(self) -> range:
        return range(self.there.shape[1])

    def among(self, rows: Flags) -> _Cases:
        return replace(
            self, matched=list(compress(self.matched, rows)), counted=self.counted[rows], there=self.there[rows]
        )


def _counts(images: Sequence[Detections], classes: int, score: float) -> NDArray[np.int64]:
    return np.stack([np.bincount(image.above(score).classes, minlength=classes) for image in images])


def _metrics(cases: _Cases, subjects: Sequence[str]) -> dict[str, Measured]:
    by_class = [rank(cases.matched, [k]) for k in cases.classes]
    errors: Floats = np.abs(cases.counted - cases.there).sum(1).astype(float)
    return measure(
        {
            "map": macro([mean_precision(ranked) for ranked in by_class]),
            "ap50": macro([average_precision(ranked, 0) for ranked in by_class]),
            "counting_area": counting_area(rank(cases.matched, cases.classes)),
            "count_error": mean(errors),
            "exactly_right": mean((errors == 0).astype(float)),
        },
        subjects,
    )


def _class_metrics(cases: _Cases, k: int, subjects: Sequence[str]) -> dict[str, Measured]:
    ranked, errors = rank(cases.matched, [k]), np.abs(cases.counted[:, k] - cases.there[:, k]).astype(float)
    return measure(
        {
            "ap": mean_precision(ranked),
            "ap50": average_precision(ranked, 0),
            "counting_area": counting_area(ranked),
            "count_error": mean(errors),
        },
        subjects,
    )


def _curves(cases: _Cases) -> dict[str, tuple[tuple[float, float], ...]]:
    ranked = rank(cases.matched, cases.classes)
    if not len(ranked.image) or not ranked.objects.any():
        return {}
    return {
        "precision_recall": _thinned(*curve_points(ranked, ranked.hits[0])),
        "counting": _thinned(*curve_points(ranked, ranked.counted)),
    }


def _thinned(recall: Floats, precision: Floats) -> tuple[tuple[float, float], ...]:
    kept = np.unique(np.linspace(0, len(recall) - 1, _POINTS).round().astype(int))
    return tuple(zip(recall[kept].tolist(), precision[kept].tolist(), strict=True))
