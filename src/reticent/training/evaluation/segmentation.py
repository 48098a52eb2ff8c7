"""How well a segmenter does on held-out patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from reticent.records import Measured, SplitMetrics
from reticent.training.evaluation.bootstrap import measure
from reticent.training.evaluation.groups import attribute_groups, group
from reticent.training.evaluation.statistics import Floats, macro, mean


def segmentation_scores(
    predicted: NDArray[np.integer], target: NDArray[np.integer], n_labels: int, spacing: Sequence[float]
) -> tuple[Floats, Floats]:
    """Dice and 95 % Hausdorff distance of one record, each of shape (n_labels - 1,), by MONAI.

    | a label is | Dice | Hausdorff distance |
    |---|---|---|
    | in neither mask | 1 | 0 |
    | in one mask only | 0 | NaN: there is no distance |

    Args:
        predicted, target: label of each pixel or voxel, 0 is background.
        spacing: distance between pixels or voxels along each axis, in mm; ones give distances in pixels or voxels.
    """
    import torch
    from monai.metrics import compute_dice, compute_hausdorff_distance

    foreground = np.arange(1, n_labels).reshape(-1, *[1] * target.ndim)
    found, true = (torch.from_numpy(mask[None] == foreground)[None] for mask in (predicted, target))
    dice = compute_dice(found, true, ignore_empty=False)[0].numpy().astype(np.float64)
    hd95 = np.full(n_labels - 1, np.nan)
    for label in range(n_labels - 1):
        a, b = found[:, [label]], true[:, [label]]
        if a.any() and b.any():
            distance = compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=list(spacing))
            hd95[label] = float(distance)
        elif not a.any() and not b.any():
            hd95[label] = 0.0
    return dice, hd95


def evaluate_segmentation(
    dice: Floats,
    hd95: Floats,
    subjects: Sequence[str],
    attributes: Sequence[Mapping[str, str]],
    classes: Sequence[str],
    split: str,
) -> SplitMetrics:
    """Mean over records, then over labels, of Dice ("dice") and 95 % Hausdorff distance ("hd95"), with intervals.

    Distances that do not exist (a label in one mask only) are left out of "hd95"; they count as 0 in "dice".

    Args:
        dice: (n, n_labels - 1), from `segmentation_scores`.
        hd95: (n, n_labels - 1) in mm or voxels, NaN where there is no distance.
        classes: names of all labels, background first.
    """
    everyone = np.ones(len(subjects), dtype=bool)
    by_class = [
        group("class", name, subjects, everyone, partial(_metrics, dice[:, [k]], hd95[:, [k]], subjects))
        for k, name in enumerate(classes[1:])
    ]
    by_attribute = attribute_groups(
        subjects, attributes, lambda rows, members: _metrics(dice[rows], hd95[rows], members)
    )
    return SplitMetrics(
        split=split,
        subjects=len(set(subjects)),
        records=len(subjects),
        metrics=_metrics(dice, hd95, subjects),
        groups=(*by_class, *by_attribute),
    )


def _metrics(dice: Floats, hd95: Floats, subjects: Sequence[str]) -> dict[str, Measured]:
    scores = {"dice": dice, "hd95": hd95}
    return measure({name: macro([mean(label) for label in values.T]) for name, values in scores.items()}, subjects)
