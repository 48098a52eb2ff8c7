"""Objects as heat maps of their centres: the loss of an image, and boxes from maps (Zhou et al. 2019).

A map has a cell for every 4 x 4 pixels. Its channels are a logit for each class that an object of it has its centre in
the cell, then log width, log height, and the offsets of x and y inside the cell, all in cells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CELL = 4
"""Pixels of a cell along each axis."""
PER_IMAGE = 13.0
"""What every image's loss is divided by. A constant: its number of objects would make images weigh unequally, and the
number in a batch would couple patients."""
_REGRESSION = 0.5
_NARROWEST = 0.6
_OF_SIDE = 6.0
_SMALLEST = 1 / 64  # cells: the size that padding is given, so that its logarithm exists


def grid_of(size: tuple[int, ...]) -> tuple[int, ...]:
    """The cells of an image of this size."""
    return tuple(-(-side // CELL) for side in size)


def heat_maps(boxes: Tensor, objects: Tensor, classes: int, grid: tuple[int, int]) -> Tensor:
    r"""For each class the largest :math:`e^{-d^2 / 2 \sigma^2}` over its objects, 1 at their centres' cells.

    d is the distance from the centre's cell and :math:`\sigma = \max(0.6, \min(w, h) / 6)`, all in cells.

    Args:
        boxes: (n, most, 4) in pixels.
        objects: class of each, (n, most); -1 is padding.
    Returns:
        (n, classes, h, w)
    """
    place, size = _cells(boxes, grid)[0], _sizes(boxes)
    sigma = (size.amin(-1) / _OF_SIDE).clamp(min=_NARROWEST)[..., None]
    down, across = (
        torch.exp(-(((torch.arange(side, device=boxes.device) - place[..., axis, None]) / sigma) ** 2) / 2)
        for axis, side in ((1, grid[0]), (0, grid[1]))
    )
    spots = (down[..., :, None] * across[..., None, :]).flatten(2)
    # Padding goes to a map of its own, so that no value decides over a shape: records can be vectorised over.
    which = torch.where(objects < 0, classes, objects)[..., None].expand(spots.shape)
    maps = torch.zeros(len(boxes), classes + 1, spots.shape[2], device=boxes.device)
    return maps.scatter_reduce(1, which, spots, "amax")[:, :classes].unflatten(2, grid)


def centre_loss(maps: Tensor, boxes: Tensor, objects: Tensor, class_weights: Tensor | None = None) -> Tensor:
    r"""Loss of each image, (n,), from nothing but its own objects.

    .. math::
        \frac1{13} \Big( -\!\!\sum_{h = 1} (1 - p)^2 \log p - \!\!\sum_{h < 1} (1 - h)^4 p^2 \log (1 - p)
        + \tfrac12 \sum_{\text{objects}} \lVert r - \hat r \rVert_1 \Big)

    with the heat maps h, p = sigmoid of their logits and the four other channels r at the objects' centres. The focal
    term is of Zhou et al. 2019, equation 1, without its division by the number of objects.

    Args:
        maps: (n, K + 4, h, w).
        class_weights: (K,), multiply the terms of a class.
    """
    classes, grid = maps.shape[1] - 4, (maps.shape[2], maps.shape[3])
    heat, logits = heat_maps(boxes, objects, classes, grid), maps[:, :classes]
    log_p, log_rest = F.logsigmoid(logits), F.logsigmoid(-logits)
    there = (2 * log_rest).exp() * log_p
    elsewhere = (1 - heat) ** 4 * (2 * log_p).exp() * log_rest
    focal = -torch.where(heat == 1, there, elsewhere).flatten(2).sum(2)
    place, offset = _cells(boxes, grid)
    cell = place[..., 1] * grid[1] + place[..., 0]
    found = maps[:, classes:].flatten(2).gather(2, cell[:, None].expand(-1, 4, -1))
    wanted = torch.cat([_sizes(boxes).log(), offset], -1).mT
    distance = (found - wanted).abs().sum(1) * (objects >= 0)
    if class_weights is not None:
        focal = focal * class_weights
        distance = distance * class_weights[objects.clamp(min=0)]
    return (focal.sum(1) + _REGRESSION * distance.sum(1)) / PER_IMAGE


def boxes_of_maps(maps: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `most` highest local maxima of an image's heat maps, over 3 x 3 cells of a class.

    Args:
        maps: (K + 4, h, w).
    Returns:
        boxes (most, 4) in pixels, scores (most,) from high to low, and classes (most,); fewer if there are fewer cells
    """
    heat = maps[:-4].sigmoid()
    peaks = torch.where(F.max_pool2d(heat, 3, 1, 1) == heat, heat, 0.0)
    scores, where = peaks.flatten().topk(min(most, peaks.numel()))
    width = maps.shape[2]
    cells = where % (maps.shape[1] * width)
    size, offset = maps[-4:].flatten(1)[:, cells].mT.split(2, 1)
    centre = torch.stack([cells % width, cells // width], 1) + offset
    half = size.exp() / 2
    return CELL * torch.cat([centre - half, centre + half], 1), scores, where // (maps.shape[1] * width)


def _cells(boxes: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Cell of each centre and the offset inside it, each (n, most, 2) as x, y."""
    centre = (boxes[..., :2] + boxes[..., 2:]) / (2 * CELL)
    place = torch.stack([centre[..., axis].floor().clamp(0, grid[1 - axis] - 1) for axis in (0, 1)], -1)
    return place.long(), centre - place


def _sizes(boxes: Tensor) -> Tensor:
    """Width and height in cells, (n, most, 2)."""
    return ((boxes[..., 2:] - boxes[..., :2]) / CELL).clamp(min=_SMALLEST)
