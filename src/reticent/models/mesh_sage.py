"""GraphSAGE on surfaces, a network of the paper on body fat from meshes (Mueller, Zhou et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from reticent.models.surface_graph import (
    Features,
    Readout,
    SurfaceGraph,
    check_option,
    read_surface_graph,
    vertex_widths,
)

NodeNorm = Literal["layer", "graph", "none"]


class SageLayer(nn.Module):
    r""":math:`h_i' = W_1 h_i + W_2 \frac{1}{|N(i)|} \sum_{j \in N(i)} h_j + b` (Hamilton, Ying & Leskovec 2017)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.own = nn.Linear(in_channels, out_channels, bias=False)
        self.neighbours = nn.Linear(in_channels, out_channels)

    def forward(self, h: Tensor, graph: SurfaceGraph) -> Tensor:
        """h (n, P, C) to (n, P, C')."""
        return self.own(h) + self.neighbours(graph.neighbour_mean(h))


class GraphNorm(nn.Module):
    """Each channel to mean 0 and variance 1 over the vertices of its own surface, then a learnt scale and shift.

    Divides what is linear in the positions by its spread, and with it the size of the surface: for shapes only.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, h: Tensor, graph: SurfaceGraph) -> Tensor:
        """h (n, P, C); columns without a vertex take no part in the statistics."""
        inside = graph.is_vertex[..., None]
        count = inside.sum(1, keepdim=True).clamp(min=1)
        centred = (h - (h * inside).sum(1, keepdim=True) / count) * inside
        variance = (centred**2).sum(1, keepdim=True) / count
        return centred * (variance + 1e-5).rsqrt() * self.weight + self.bias


class _PerNode(nn.Module):
    """`LayerNorm` over the channels of every vertex, which leaves the size of a surface in them, or nothing."""

    def __init__(self, channels: int, normalises: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels) if normalises else nn.Identity()

    def forward(self, h: Tensor, graph: SurfaceGraph) -> Tensor:
        found: Tensor = self.norm(h)
        return found


class MeshSage(nn.Module):
    """SAGE layers of `conv_channels` with norm and ReLU between, a readout over the vertices, and an MLP `head`.

    The paper's network is the one of the default channels with `features="xyz"`, `readout="max"` and BatchNorm, which
    couples patients; `norm="layer"` takes its place. Its message passing is the mean of neighbours throughout: what its
    script calls aggregation is the readout.

    | norm | size of the surface |
    |---|---|
    | "layer" (of each vertex over its channels) | stays in the features |
    | "graph" (of each channel over the vertices) | is lost in the first layer |
    | "none" | stays |

    Raises:
        InputError: the inputs are no prepared surfaces, or an option is unknown.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        conv_channels: Sequence[int] = (32, 64, 128),
        head: Sequence[int] = (512, 128, 32),
        readout: Readout = "both",
        features: Features = "xyz+normals",
        norm: NodeNorm = "layer",
    ) -> None:
        super().__init__()
        widths, read_out = vertex_widths("mesh-sage", spatial_dims, in_channels, features, conv_channels, readout)
        check_option("norm", norm, get_args(NodeNorm))
        self.features, self.readout = features, readout
        self.layers = nn.ModuleList(SageLayer(a, b) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(
            GraphNorm(width) if norm == "graph" else _PerNode(width, norm == "layer") for width in widths[1:-1]
        )
        self.head = mlp(read_out, head, out_channels)

    def forward(self, packed: Tensor) -> Tensor:
        """Prepared surfaces (n, 12, P) to (n, out_channels)."""
        graph = read_surface_graph(packed)
        h = self.layers[0](graph.features(self.features), graph)
        for norm, layer in zip(self.norms, self.layers[1:], strict=True):
            h = layer(torch.relu(norm(h, graph)), graph)
        found: Tensor = self.head(graph.readout(h, self.readout))
        return found


def mlp(in_channels: int, hidden: Sequence[int], out_channels: int) -> nn.Sequential:
    """Linear layers with ReLU between."""
    widths = [in_channels, *hidden, out_channels]
    layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    return nn.Sequential(layers[0], *(part for layer in layers[1:] for part in (nn.ReLU(), layer)))
