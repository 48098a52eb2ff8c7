"""What each slice gave to a prediction, as one picture. It shows a patient: the file is its owner's."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from reticent.records import SliceExplanation, write_file

_SHOWN = 3
_FOR, _AGAINST, _ATTENTION = "#0067a3", "#c05000", "#5a5f66"


def save_slice_figure(explanation: SliceExplanation, title: str, path: Path) -> None:
    """Save `slice_figure`, for its owner alone."""
    write_file(path, lambda aside: aside.write_bytes(slice_figure(explanation, title)), mode=0o600)


def slice_figure(explanation: SliceExplanation, title: str) -> bytes:
    """PNG of signed shares of all slices in the predicted logit, and those with the largest under HiResCAM."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    name = explanation.classes[explanation.predicted]
    axes = explanation.axes
    with rc_context({"font.family": "sans-serif", "font.size": 8}):
        figure = Figure(figsize=(9.5, 0.7 + 2.1 * len(axes)), layout="constrained")
        grid = figure.subplots(len(axes), 1 + _SHOWN, squeeze=False, width_ratios=[2.6, *[1] * _SHOWN])
        for place, row in enumerate(grid):
            _draw_shares(row[0], explanation, place)
            _draw_largest(row[1:], explanation, place)
        grid[0, 0].legend(frameon=False, fontsize=7, loc="best")
        figure.suptitle(f"{title}\nblue speaks for {name}, orange against; over the slices HiResCAM", fontsize=9)
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=130)
        return png.getvalue()


def _draw_shares(panel: Any, explanation: SliceExplanation, place: int) -> None:
    rows, name = explanation.along(place), explanation.classes[explanation.predicted]
    shares = explanation.contributions[rows, explanation.predicted]
    panel.bar(range(len(shares)), shares, color=np.where(shares > 0, _FOR, _AGAINST))
    panel.axhline(0, color="black", linewidth=0.6)
    panel.set(xlabel=f"slice along axis {explanation.axes[place]}", ylabel=f"share in the logit of {name}")
    largest, weights = np.abs(explanation.contributions[:, explanation.predicted]).max(), explanation.weights
    scale = largest / weights.max() if largest else 1.0
    panel.plot(scale * weights[rows], color=_ATTENTION, linewidth=1, label="attention (its own scale)")
    panel.set_ylim(-1.1 * largest or None, 1.1 * largest or None)
    panel.spines[["top", "right"]].set_visible(False)


def _draw_largest(panels: Any, explanation: SliceExplanation, place: int) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("for and against", [_AGAINST, "white", _FOR])
    rows, images, maps = explanation.along(place), explanation.slices[place], explanation.maps[place]
    shares = explanation.contributions[rows, explanation.predicted]
    largest = max(float(np.abs(own).max()) for own in explanation.maps) or 1.0
    for panel in panels:
        panel.set_axis_off()
    for panel, index in zip(panels, np.argsort(-np.abs(shares)), strict=False):
        height, width = images[index].shape
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        panel.imshow(images[index], cmap="gray", extent=extent)
        panel.imshow(
            maps[index], cmap=colours, vmin=-largest, vmax=largest, alpha=0.4, extent=extent, interpolation="bilinear"
        )
        panel.set_title(f"slice {index}: {shares[index]:+.2f}", fontsize=8)
