"""An image with the boxes that were found in it. It shows a patient: the file is its owner's."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from reticent.records import DetectionExample, write_file

_COLOURS = ("#0067a3", "#c05000", "#2e7d32", "#8e24aa", "#ad1457", "#00838f", "#5d4037", "#455a64")
_INCHES, _DPI = 5.0, 110


def save_box_figure(example: DetectionExample, path: Path) -> None:
    """Save `box_figure`, for its owner alone."""
    write_file(path, lambda aside: aside.write_bytes(box_figure(example)), mode=0o600)


def box_figure(example: DetectionExample) -> bytes:
    """PNG of the image with what was found, by class and score, and dashed what was annotated."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    image, found = example.image, example.found
    height, width = image.shape[1:]
    low, high = float(image.min()), float(image.max())
    shown = (np.moveaxis(image, 0, -1) - low) / ((high - low) or 1.0)
    with rc_context({"font.family": "sans-serif", "font.size": 6}):
        figure = Figure(figsize=(_INCHES, _INCHES * height / width))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.imshow(shown if len(image) == 3 else shown[..., 0], cmap="gray", extent=(0, width, height, 0))
        for x0, y0, x1, y1 in example.truth.boxes:
            axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color="white", linestyle="--", lw=0.8))
        for (x0, y0, x1, y1), score, label in zip(found.boxes, found.scores, found.classes, strict=True):
            colour = _COLOURS[label % len(_COLOURS)]
            axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color=colour, lw=1.2))
            axes.text(
                x0, y0, f"{example.classes[label]} {score:.2f}", color="white", va="bottom",
                bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.6, "alpha": 0.85},
            )  # fmt: skip
        axes.set(xlim=(0, width), ylim=(height, 0))
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=_DPI)
        return png.getvalue()
