"""A network on the vertices of a surface as a set of points, without its edges."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from reticent.models.mesh_sage import mlp
from reticent.models.surface_graph import Features, Readout, read_surface_graph, vertex_widths


class PointNet(nn.Module):
    """The same MLP for every vertex, a readout over them, and an MLP `head` (after Qi et al. 2017).

    Without the networks that align points there: surfaces are registered before. A LayerNorm over the channels of every
    vertex takes the place of BatchNorm, which would couple patients.

    Raises:
        InputError: the inputs are no prepared surfaces, or an option is unknown.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int] = (64, 128),
        head: Sequence[int] = (64,),
        readout: Readout = "both",
        features: Features = "xyz+normals",
    ) -> None:
        super().__init__()
        widths, read_out = vertex_widths("pointnet", spatial_dims, in_channels, features, channels, readout)
        self.features, self.readout = features, readout
        self.points = nn.Sequential(
            *(part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.LayerNorm(b), nn.ReLU()))
        )
        self.head = mlp(read_out, head, out_channels)

    def forward(self, packed: Tensor) -> Tensor:
        """Prepared surfaces (n, 12, P) to (n, out_channels)."""
        graph = read_surface_graph(packed)
        found: Tensor = self.head(graph.readout(self.points(graph.features(self.features)), self.readout))
        return found
