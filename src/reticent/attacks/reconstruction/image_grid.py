"""Images beside each other as one PNG file. Reconstructions of patients are personal data: the file is its owner's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from reticent.records import write_file

_SIDE = 1.15
_TITLE = 7.5


@dataclass(frozen=True)
class Column:
    """A title, and one image (n, C, ...) in [0, 1] for each row."""

    title: str
    images: Tensor


def save_grid(path: Path, columns: Sequence[Column], rows: int, note: str) -> None:
    """Draw the first `rows` images of each column; of volumes the middle slice. `note` stands below."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = min(rows, *(len(column.images) for column in columns))
    with rc_context({"font.family": "sans-serif", "font.size": _TITLE}):
        figure = Figure(figsize=(_SIDE * len(columns), _SIDE * rows + 0.55), layout="constrained")
        axes = figure.subplots(rows, len(columns), squeeze=False)
        for place, column in enumerate(columns):
            axes[0, place].set_title(column.title, fontsize=_TITLE)
            for row in range(rows):
                _show(axes[row, place], column.images[row])
        figure.supxlabel(note, fontsize=_TITLE)
        write_file(path, partial(figure.savefig, format="png", dpi=130), mode=0o600)


def _show(axes: Any, image: Tensor) -> None:
    pixels = image.detach().clamp(0, 1).double().numpy()
    if pixels.ndim == 4:
        pixels = pixels[:, pixels.shape[1] // 2]
    shown = np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels[0]
    axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
