"""Girth profiles: what a tape measure would read at many heights of a body, as one vector."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import ConvexHull, QhullError

from reticent.data.surfaces.mesh import Mesh, mesh_volume
from reticent.errors import InputError

_BODY_LEVELS = tuple(np.linspace(0.46, 0.80, 18).tolist())
_SHIFT = 1e-7
"""Cuts are moved off the vertices by this share of the extent: a cut through a vertex has no clean loop."""


@dataclass(frozen=True)
class Profile:
    """Where a surface is cut and what is measured: at `levels` (shares of its extent) across `axis` (0, 1 or 2).

    `measures` are of the part of a cut with the longest girth: "perimeter" (of its convex hull, as a tape measures),
    "width", "depth" (extents along the two other axes, in their order) and "area" (enclosed by the cut itself).
    """

    levels: Sequence[float] = _BODY_LEVELS
    axis: int = 2
    measures: Sequence[str] = field(default=("perimeter", "width", "depth"))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the numbers of `girth_profile`."""
        cuts = [f"{measure} at {level:.0%}" for level in self.levels for measure in self.measures]
        return (*cuts, "height", "volume")


def parse_profile(text: str) -> Profile:
    """The profile that a text names: "body", or AXIS:FROM-TO/CUTS and perhaps :MEASURE+MEASURE, as y:0.05-0.95/20:area.

    Raises InputError for another form.
    """
    if text == "body":
        return Profile()
    form = re.fullmatch(r"([xyz]):([\d.]+)-([\d.]+)/(\d+)(?::([a-z+]+))?", text)
    try:
        if form is None:
            raise ValueError
        axis, low, high, cuts, measured = form.groups()
        levels, measures = (
            np.linspace(float(low), float(high), int(cuts)).tolist(),
            tuple((measured or "area").split("+")),
        )
        if not 0 <= float(low) <= float(high) <= 1 or not levels or not set(measures) <= set(_MEASURES):
            raise ValueError
    except ValueError:
        raise InputError(
            f"--profile {text!r}: say body, or AXIS:FROM-TO/CUTS as y:0.05-0.95/20, shares of the extent from 0 to 1,"
            f" and perhaps :MEASURE+MEASURE of {', '.join(sorted(_MEASURES))}"
        ) from None
    return Profile(tuple(levels), "xyz".index(axis), measures)


def girth_profile(mesh: Mesh, profile: Profile | None = None) -> np.ndarray:
    """Measures of every cut, level by level, then the extent along the axis and the volume, float64.

    By default 18 horizontal cuts at 46 to 80 % of the height of a body with z upwards, of which perimeter, width and
    depth: 56 numbers. A cut that meets nothing measures 0.
    """
    profile = profile or Profile()
    along = mesh.vertices[:, profile.axis]
    low, height = along.min(), np.ptp(along)
    rows = [_cut(mesh, profile.axis, low + (level + _SHIFT) * height, profile.measures) for level in profile.levels]
    return np.array([*(value for row in rows for value in row), height, mesh_volume(mesh)])


def _cut(mesh: Mesh, axis: int, at: float, measures: Sequence[str]) -> list[float]:
    starts, ends, edges = _segments(mesh, axis, at)
    if not len(starts):
        return [0.0] * len(measures)
    nodes, codes = np.unique(edges.reshape(-1), return_inverse=True)
    pairs = codes.reshape(-1, 2)
    graph = coo_matrix((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), (len(nodes), len(nodes)))
    part = connected_components(graph, directed=False)[1][pairs[:, 0]]
    loops = [(starts[part == k], ends[part == k]) for k in range(part.max() + 1)]
    widest = loops[0] if len(loops) == 1 else max(loops, key=lambda loop: _MEASURES["perimeter"](*loop))
    return [_MEASURES[measure](*widest) for measure in measures]


def _segments(mesh: Mesh, axis: int, at: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start and end in the plane, (S, 2) each, of the cut through every face that it meets, and the edges they lie on.

    A cut enters a face where the edge goes up and leaves where it goes down, so that all loops turn the same way.
    """
    above = mesh.vertices[:, axis] > at
    first, second, third = (above[corner] for corner in mesh.faces.T)
    corners = mesh.faces[(first != second) | (second != third)]
    others = [k for k in range(3) if k != axis]
    points, edges = [], []
    for goes_up in (True, False):
        one, two = corners, np.roll(corners, -1, axis=1)
        crosses = (above[one] != above[two]) & (above[two] == goes_up)
        rows = np.arange(len(corners))
        column = crosses.argmax(axis=1)
        a, b = one[rows, column], two[rows, column]
        share = (at - mesh.vertices[a, axis]) / (mesh.vertices[b, axis] - mesh.vertices[a, axis])
        points.append((mesh.vertices[a] + share[:, None] * (mesh.vertices[b] - mesh.vertices[a]))[:, others])
        edges.append(np.minimum(a, b) * np.int64(len(mesh.vertices)) + np.maximum(a, b))
    return points[0], points[1], np.stack(edges, axis=1)


def _perimeter(starts: np.ndarray, ends: np.ndarray) -> float:
    try:
        return float(ConvexHull(starts).area)  # of a plane hull, Qhull's "area" is its perimeter
    except QhullError:  # all points on a line
        return 2 * float(np.hypot(*np.ptp(starts, axis=0)))


def _area(starts: np.ndarray, ends: np.ndarray) -> float:
    return abs(float((starts[:, 0] * ends[:, 1] - starts[:, 1] * ends[:, 0]).sum())) / 2


_MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "perimeter": _perimeter,
    "width": lambda starts, ends: float(np.ptp(starts[:, 0])),
    "depth": lambda starts, ends: float(np.ptp(starts[:, 1])),
    "area": _area,
}
"""By name, of the start and end points of a closed loop's segments."""
