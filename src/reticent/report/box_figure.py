"""An image with the boxes that were found in it. It shows a patient: the file is its owner's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from reticent.records import Detections, write_file

_COLOURS = ("#0067a3", "#c05000", "#2e7d32", "#8e24aa", "#ad1457", "#00838f", "#5d4037", "#455a64")
_INCHES, _DPI = 5.0, 110


def save_box_figure(image: np.ndarray, found: Detections, names: Sequence[str], path: Path) -> None:
    """Draw boxes with class and score on an image (C, H, W) and save it as PNG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    height, width = image.shape[1:]
    with rc_context({"font.family": "sans-serif", "font.size": 6}):
        figure = Figure(figsize=(_INCHES, _INCHES * height / width))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        low, high = float(image.min()), float(image.max())
        shown = (np.moveaxis(image, 0, -1) - low) / ((high - low) or 1.0)
        axes.imshow(shown if len(image) == 3 else shown[..., 0], cmap="gray", extent=(0, width, height, 0))
        for (x0, y0, x1, y1), score, label in zip(found.boxes, found.scores, found.classes, strict=True):
            colour = _COLOURS[label % len(_COLOURS)]
            axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color=colour, linewidth=1))
            axes.text(
                x0, y0, f"{names[label]} {score:.2f}", color="white", va="bottom",
                bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.6, "alpha": 0.85},
            )  # fmt: skip
        axes.set(xlim=(0, width), ylim=(height, 0))
        write_file(path, partial(figure.savefig, format="png", dpi=_DPI), mode=0o600)
