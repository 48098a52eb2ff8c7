"""Where on a surface a network's prediction comes from: what a little more volume there would change."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from reticent.data.surfaces import Mesh, area_normals, decimate
from reticent.data.surfaces.preparing import GraphPreparation
from reticent.training.tasks import Regression


def vertex_sensitivity(
    model: nn.Module, task: Regression, preparation: GraphPreparation, mesh: Mesh, name: str
) -> tuple[Mesh, dict[str, np.ndarray]]:
    r"""The decimated mesh in its own position, and of each target the change of its prediction for volume added there.

    Moving vertex i outwards by a small h adds the volume :math:`a_i h`, with :math:`a_i` the length of its area normal
    (`area_normals`). The sensitivity is :math:`\frac{1}{a_i} \partial \hat y / \partial h`, in the target's unit for a
    unit of volume of the file, (V,); area normals move with their vertices. For a network that measured the volume
    itself it would be 1 everywhere.

    Raises:
        InputError: the surface cannot be prepared.
    """
    small = decimate(mesh, preparation.faces, name)
    placed = preparation.placed(small, name)
    packed = torch.from_numpy(preparation.packed(placed, name)).double()
    positions = torch.from_numpy(placed.vertices).requires_grad_()
    columns, count = packed.shape[1], len(positions)
    moved = torch.cat([positions, _area_normals(positions, placed) * (columns / (4 * np.pi))], 1).T
    inputs = torch.cat([torch.nn.functional.pad(moved, (0, columns - count)), packed[6:]])[None]
    outputs = task.physical(model.double().eval()(inputs))[0]
    outwards = torch.from_numpy(area_normals(placed))
    areas = outwards.norm(dim=1)
    unit = _unit_volume(small, placed)
    found = {}
    for k, target in enumerate(task.classes):
        (gradient,) = torch.autograd.grad(outputs[k], positions, retain_graph=True)
        found[target] = ((gradient * outwards).sum(1) / areas.clamp(min=1e-12) ** 2 * unit).numpy()
    model.float()
    return small, found


def _area_normals(positions: Tensor, mesh: Mesh) -> Tensor:
    """`area_normals`, to be differentiated."""
    faces = torch.from_numpy(mesh.faces)
    a, b, c = positions[faces].unbind(1)
    share = torch.linalg.cross(b - a, c - a) / 6
    return torch.zeros_like(positions).index_add(0, faces.flatten(), share.repeat_interleave(3, 0))


def _unit_volume(mesh: Mesh, placed: Mesh) -> float:
    """Volume in the prepared unit that one of the file's becomes."""
    spread = [float(np.linalg.norm(m.vertices - m.vertices.mean(0))) for m in (placed, mesh)]
    return (spread[0] / spread[1]) ** 3
