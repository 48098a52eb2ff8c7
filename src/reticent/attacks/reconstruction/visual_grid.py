"""The picture of a visual audit: original, seen and denoised at each amount of noise, and the prior alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from reticent.attacks.reconstruction.image_grid import Column, save_grid
from reticent.attacks.reconstruction.visual import Level, VisualAudit


def save_visual_grid(path: Path, audit: VisualAudit, patients: int, title: Callable[[Level], str], note: str) -> None:
    """Two rows for each of the first `patients`: above what was seen, below what the prior made of it.

    `title`: of a level's column; `note` stands below. For its owner alone to read.
    """
    images = audit.images
    blank = torch.full_like(images, torch.nan)
    columns = [Column("original", _in_turn(images, blank))]
    columns += [Column(title(level), _in_turn(level.seen, level.found)) for level in audit.levels]
    columns.append(Column("prior only", _in_turn(blank, audit.guess.to(images).expand_as(images))))
    save_grid(path, columns, 2 * patients, f"{note}\nof each patient above: what was seen; below: denoised")


def _in_turn(above: Tensor, below: Tensor) -> Tensor:
    return torch.stack([above.to(below), below], 1).flatten(0, 1)
