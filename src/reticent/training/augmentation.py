"""Light random augmentation of a batch: each record on its own, from nothing but its own pixels and random numbers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from reticent.data import PADDING, clip_boxes

_ROTATION = 0.085
"""Largest rotation about an axis, in radians (5 degrees)."""
_ZOOM = 0.05
_SHIFT = 0.0375
"""Largest shift, as a fraction of the side."""
_LOG_GAMMA = 0.2


def augment(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch with every record rotated, zoomed and shifted a little, and its grey curve bent (gamma).

    Nothing is mirrored: in medical images the side of the body means something. Masks and boxes move with their images
    (a box becomes the upright one around its moved corners, clipped as `clip_boxes` does), labels and vectors stay. A
    slice is padding where its middle came from one that was: a turned one may have a corner of the volume or lack one.
    Inputs of one record move together. Surfaces are turned and shifted (`turned`).
    """
    inputs: dict[str, Tensor] = {name: x for name, x in batch["inputs"].items() if x.ndim > 2}
    first = next(iter(inputs.values()))
    if not len(first):
        return batch
    if first.ndim == 3:
        return {**batch, "inputs": {name: turned(x) for name, x in inputs.items()}}
    grids: dict[tuple[int, ...], Tensor] = {}
    motion = _random_motion(len(first), first.shape[2:])
    for x in inputs.values():
        grids.setdefault(tuple(x.shape[2:]), F.affine_grid(motion, [len(x), 1, *x.shape[2:]], align_corners=False))
    gamma = torch.exp(_uniform(len(first), 1, _LOG_GAMMA))
    moved = {name: _bent(_move(x, grids[tuple(x.shape[2:])], "bilinear"), gamma) for name, x in inputs.items()}
    targets = dict(batch["targets"])
    if "mask" in targets:
        mask = targets["mask"]
        moved_mask = _move(mask[:, None].to(first), grids[tuple(mask.shape[1:])], "nearest")
        targets["mask"] = moved_mask[:, 0].to(mask.dtype)
    if "boxes" in targets:
        around = _moved_boxes(targets["boxes"], motion, first.shape[2:]).numpy()
        size = (first.shape[2], first.shape[3])
        boxes, objects = clip_boxes(around, targets["objects"].numpy(), size)
        targets |= {"boxes": torch.from_numpy(boxes), "objects": torch.from_numpy(objects)}
    if PADDING in batch["inputs"]:
        moved[PADDING] = _moved_padding(batch["inputs"][PADDING], motion, first.shape[2:])
    return {**batch, "inputs": {**batch["inputs"], **moved}, "targets": targets}


def turned(surfaces: Tensor) -> Tensor:
    """Surfaces (n, 12, P) turned and shifted a little, positions and normals together; not zoomed: size is a signal."""
    turn = torch.zeros(len(surfaces), 3, 3)
    turn[:, [0, 0, 1], [1, 2, 2]] = _uniform(len(surfaces), 3, _ROTATION)
    rotation = torch.matrix_exp(turn - turn.transpose(1, 2)).to(surfaces)
    positions, normals, edges = surfaces.split([3, 3, 6], 1)
    is_vertex = normals.abs().sum(1, keepdim=True) > 0
    shift = 2 * _uniform(len(surfaces), 3, _SHIFT)[..., None].to(surfaces)
    return torch.cat([(rotation @ positions + shift) * is_vertex, rotation @ normals, edges], 1)


def _moved_padding(padding: Tensor, motion: Tensor, size: torch.Size) -> Tensor:
    """Padding (n, D + H + W) of slices that moved with their volume, by where the middle of each came from."""
    moved = []
    for axis, own in enumerate(padding.split(tuple(size), 1)):
        side, row = size[axis], len(size) - 1 - axis
        here = (2 * torch.arange(side) + 1) / side - 1
        there = motion[:, row, row, None] * here + motion[:, row, -1, None]
        moved.append(own.gather(1, ((there + 1) / 2 * side).floor().long().clamp(0, side - 1)))
    return torch.cat(moved, 1)


def _moved_boxes(boxes: Tensor, motion: Tensor, size: torch.Size) -> Tensor:
    """The upright boxes around the corners of boxes (n, most, 4) that moved with their images."""
    sides = torch.tensor(size[::-1], dtype=boxes.dtype)
    corners = boxes[..., [0, 1, 2, 1, 0, 3, 2, 3]].unflatten(-1, (4, 2))
    there = (2 * corners / sides - 1).flatten(1, 2) - motion[:, None, :, 2]
    here = torch.linalg.solve(motion[:, :, :2], there.mT).mT.reshape(corners.shape)
    pixels = (here + 1) / 2 * sides
    return torch.cat([pixels.amin(-2), pixels.amax(-2)], -1)


def _random_motion(count: int, size: torch.Size) -> Tensor:
    """Affine maps (n, d, d + 1) from output to input coordinates, each axis from -1 to 1 in the order x, y(, z)."""
    d = len(size)
    rows, columns = torch.triu_indices(d, d, 1)
    turn = torch.zeros(count, d, d)
    turn[:, rows, columns] = _uniform(count, len(rows), _ROTATION)
    sides = torch.tensor(size[::-1], dtype=turn.dtype)
    rotation = torch.matrix_exp(turn - turn.transpose(1, 2)) * (sides / sides[:, None])
    scale = 1 / (1 + _uniform(count, 1, _ZOOM))
    return torch.cat([rotation * scale[..., None], 2 * _uniform(count, d, _SHIFT)[..., None]], 2)


def _uniform(count: int, columns: int, largest: float) -> Tensor:
    return (torch.rand(count, columns) * 2 - 1) * largest


def _move(x: Tensor, grid: Tensor, mode: str) -> Tensor:
    return F.grid_sample(x, grid, mode=mode, padding_mode="border", align_corners=False)


def _bent(x: Tensor, gamma: Tensor) -> Tensor:
    """Each channel's values to the power gamma within their range."""
    flat = x.flatten(2)
    low, high = flat.amin(2, keepdim=True), flat.amax(2, keepdim=True)
    share = (flat - low) / (high - low).clamp(min=1e-12)
    return (low + (high - low) * share ** gamma[..., None]).reshape(x.shape)
