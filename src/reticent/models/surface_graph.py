"""Surfaces as graphs: what the array of a prepared surface holds, and the sum over a vertex's neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from reticent.errors import InputError

Features = Literal["xyz", "xyz+normals"]
Readout = Literal["max", "mean", "both"]
SURFACE_CHANNELS = 12


class SurfaceGraph(NamedTuple):
    """Of a batch of n surfaces with room for P vertices each."""

    positions: Tensor
    """(n, P, 3); zeros where there is no vertex."""
    normals: Tensor
    """(n, P, 3), as long as the area that adjoins the vertex."""
    neighbours: Tensor
    """Columns of the neighbours of every vertex in turn, int64 (n, 2 E)."""
    offsets: Tensor
    """Vertex i has neighbours[offsets[i]:offsets[i + 1]], int64 (n, P + 1)."""
    is_vertex: Tensor
    """Bool (n, P): columns with neighbours, but for the last, which stands for none."""

    def features(self, kind: Features) -> Tensor:
        """Positions, or positions and normals, (n, P, 3 or 6)."""
        return self.positions if kind == "xyz" else torch.cat([self.positions, self.normals], 2)

    def neighbour_mean(self, h: Tensor) -> Tensor:
        """Mean of h (n, P, C) over each vertex's neighbours; zeros where there are none."""
        degrees = (self.offsets[:, 1:] - self.offsets[:, :-1]).clamp(min=1)
        return _NeighbourSum.apply(h, self.neighbours, self.offsets) / degrees[..., None]

    def readout(self, h: Tensor, kind: Readout) -> Tensor:
        """Largest value or mean of h (n, P, C) over the vertices of each surface, or both: (n, C or 2 C)."""
        inside = self.is_vertex[..., None]
        found = []
        if kind in ("max", "both"):
            found.append(h.masked_fill(~inside, torch.finfo(h.dtype).min).amax(1))
        if kind in ("mean", "both"):
            found.append((h * inside).sum(1) / inside.sum(1).clamp(min=1))
        return torch.cat(found, 1)


def read_surface_graph(packed: Tensor) -> SurfaceGraph:
    """The parts of float arrays (n, 12, P) as `reticent.data.surfaces` prepares them.

    Any finite array is read without an error: numbers of columns beyond the array are taken to its ends.
    """
    columns = packed.shape[2]
    ends = packed[:, 6:].detach().flatten(1).unflatten(1, (2, -1)).round().clamp(0, columns - 1).long()
    neighbours, offsets = _Adjacency.apply(ends, columns)
    is_vertex = (offsets[:, 1:] > offsets[:, :-1]) & (torch.arange(columns, device=packed.device) < columns - 1)
    positions, normals = packed[:, :3].transpose(1, 2), packed[:, 3:6].transpose(1, 2)
    return SurfaceGraph(positions, normals, neighbours, offsets, is_vertex)


def vertex_widths(
    name: str, spatial_dims: int, in_channels: int, features: Features, hidden: Sequence[int], readout: Readout
) -> tuple[list[int], int]:
    """Channels of a vertex from its features on, and the number of values that the readout gives of a surface.

    Raises:
        InputError: the inputs are no prepared surfaces, or features or readout are unknown.
    """
    if spatial_dims != 1 or in_channels != SURFACE_CHANNELS:
        raise InputError(f"model {name!r} reads surfaces, and these are not: give a cohort of meshes without --profile")
    check_option("features", features, get_args(Features))
    check_option("readout", readout, get_args(Readout))
    widths = [3 if features == "xyz" else 6, *hidden]
    return widths, widths[-1] * (2 if readout == "both" else 1)


def check_option(name: str, value: str, known: Sequence[str]) -> None:
    """Raise InputError for an unknown value."""
    if value not in known:
        raise InputError(f"{name}={value!r}: say one of {', '.join(known)}")


def _rows(info: Any, in_dims: Any, args: tuple[Any, ...]) -> list[Any]:
    """Arguments below `vmap`, whose records have a first axis of their own, with all records' rows along one axis."""
    flat = []
    for value, axis in zip(args, in_dims, strict=True):
        if isinstance(value, Tensor):
            moved = value.expand(info.batch_size, *value.shape) if axis is None else value.movedim(axis, 0)
            value = moved.flatten(0, 1)
        flat.append(value)
    return flat


class _Adjacency(torch.autograd.Function):
    """Neighbours and offsets of edges (n, 2, E) among so many columns; there is nothing to differentiate."""

    @staticmethod
    def forward(ends: Tensor, columns: int) -> tuple[Tensor, Tensor]:
        starts, goals = ends.flatten(1), ends.flip(1).flatten(1)
        order = starts.argsort(dim=1)
        places = torch.arange(columns + 1, device=ends.device).expand(len(ends), -1).contiguous()
        return goals.gather(1, order), torch.searchsorted(starts.gather(1, order), places)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        return None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        neighbours, offsets = _Adjacency.apply(*_rows(info, in_dims, args))
        lead = (info.batch_size, -1)
        return (neighbours.unflatten(0, lead), offsets.unflatten(0, lead)), (0, 0)


class _NeighbourSum(torch.autograd.Function):
    r"""Sum of h (n, P, C) over each vertex's neighbours: a symmetric matrix times h, so that it is its own adjoint."""

    @staticmethod
    def forward(h: Tensor, neighbours: Tensor, offsets: Tensor) -> Tensor:
        columns, edges = h.shape[1], neighbours.shape[1]
        record = torch.arange(len(h), device=h.device)[:, None]
        bags = (offsets[:, :-1] + record * edges).flatten()
        rows = (neighbours + record * columns).flatten()
        # rows ahead of the first bag of a record would count to the bag before: offsets start at 0, so there are none
        return F.embedding_bag(rows, h.reshape(-1, h.shape[2]), bags, mode="sum").view_as(h)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _NeighbourSum.apply(gradient, *ctx.saved_tensors), None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> tuple[Tensor, int]:
        return _NeighbourSum.apply(*_rows(info, in_dims, args)).unflatten(0, (info.batch_size, -1)), 0
