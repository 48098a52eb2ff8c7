import numpy as np
import pytest
import torch
import trimesh
from torch import nn

from reticent.data.surfaces import Mesh, mesh_area
from reticent.data.surfaces.preparing import GraphPreparation
from reticent.errors import InputError
from reticent.models import GraphNorm, MeshSage, PointNet, SageLayer, build_model, read_surface_graph

PREPARATION = GraphPreparation(faces=200)


def bumpy(seed, subdivisions=2, size=1.0):
    """A closed surface of 80 or 320 faces with bumps of this seed."""
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions)
    random = np.random.default_rng(seed)
    vertices = np.asarray(sphere.vertices) * random.uniform(0.7, 1.3, (len(sphere.vertices), 1)) * size
    return Mesh(vertices, np.asarray(sphere.faces, np.int64))


def packed(*meshes, preparation=PREPARATION):
    return torch.from_numpy(np.stack([preparation.packed(mesh, "made up") for mesh in meshes]))


def dense(mesh, columns):
    """Row-normalised adjacency, filled to so many columns."""
    matrix = torch.zeros(columns, columns)
    for face in mesh.faces:
        for a, b in zip(face, np.roll(face, 1), strict=True):
            matrix[a, b] = matrix[b, a] = 1
    return matrix / matrix.sum(1, keepdim=True).clamp(min=1)


def networks():
    torch.manual_seed(0)
    return [
        MeshSage(1, 12, 2), MeshSage(1, 12, 2, readout="max", features="xyz", norm="none"),
        MeshSage(1, 12, 2, readout="mean", norm="graph"), PointNet(1, 12, 2),
    ]  # fmt: skip


def test_the_prepared_array_holds_positions_normals_of_the_area_and_every_edge():
    mesh = bumpy(0, 1)
    graph = read_surface_graph(packed(mesh))
    count = len(mesh.vertices)
    np.testing.assert_allclose(graph.positions[0, :count], mesh.vertices, rtol=1e-6)
    assert graph.is_vertex[0].sum() == count
    columns = PREPARATION.shape[1]
    length = graph.normals[0].norm(dim=1).sum() * 4 * np.pi / columns
    assert float(length) == pytest.approx(mesh_area(mesh), rel=0.2)  # bumps turn the normals of one vertex apart
    for vertex in range(count):
        found = graph.neighbours[0, graph.offsets[0, vertex] : graph.offsets[0, vertex + 1]].tolist()
        assert sorted(found) == torch.nonzero(dense(mesh, count)[vertex]).flatten().tolist()


def test_a_sage_layer_is_the_dense_formula():
    mesh, columns = bumpy(1, 1), PREPARATION.shape[1]
    layer, h = SageLayer(5, 7), torch.randn(1, columns, 5)
    h[:, len(mesh.vertices) :] = 0
    found = layer(h, read_surface_graph(packed(mesh)))
    a = dense(mesh, columns)
    expected = h @ layer.own.weight.T + a @ h @ layer.neighbours.weight.T + layer.neighbours.bias
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_a_sage_layer_is_that_of_pytorch_geometric():
    geometric = pytest.importorskip("torch_geometric.nn", reason="compares with PyTorch Geometric (test extra)")
    mesh = bumpy(2, 1)
    reference, layer = geometric.SAGEConv(3, 8), SageLayer(3, 8)
    layer.own.weight.data = reference.lin_r.weight.data
    layer.neighbours.weight.data, layer.neighbours.bias.data = reference.lin_l.weight.data, reference.lin_l.bias.data
    assert reference.lin_r.bias is None
    edges = torch.nonzero(dense(mesh, len(mesh.vertices))).T
    vertices = torch.from_numpy(mesh.vertices).float()
    graph = read_surface_graph(packed(mesh))
    found = layer(graph.positions, graph)[0, : len(vertices)]
    torch.testing.assert_close(found, reference(vertices, edges), atol=1e-6, rtol=1e-6)


def test_the_paper_s_network_has_as_many_parameters_as_its_script():
    network = MeshSage(1, 12, 2, readout="max", features="xyz")
    assert sum(p.numel() for p in network.parameters()) == 156_994
    graph = [*network.layers.parameters(), *network.norms.parameters()]
    assert sum(p.numel() for p in graph) == 21_088


@pytest.mark.parametrize("network", networks(), ids=lambda n: type(n).__name__)
def test_the_order_of_vertices_and_faces_does_not_matter(network):
    mesh, random = bumpy(3), np.random.default_rng(0)
    order = random.permutation(len(mesh.vertices))
    renamed = np.argsort(order)[mesh.faces][random.permutation(len(mesh.faces))]
    shuffled = Mesh(mesh.vertices[order], renamed)
    preparation = GraphPreparation(320)
    one, other = network(packed(mesh, preparation=preparation)), network(packed(shuffled, preparation=preparation))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("network", networks(), ids=lambda n: type(n).__name__)
def test_a_batch_of_four_is_four_single_surfaces(network):
    batch = packed(*(bumpy(seed, 1, size) for seed, size in enumerate((1, 1.3, 0.6, 2))))
    together = network.train()(batch)
    torch.testing.assert_close(together, torch.cat([network(row[None]) for row in batch]), atol=1e-5, rtol=1e-5)


def test_batch_norm_would_couple_the_surfaces_of_a_batch():
    class OverBatch(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.norm = nn.BatchNorm1d(channels)

        def forward(self, h, graph):
            return self.norm(h.transpose(1, 2)).transpose(1, 2)

    network = MeshSage(1, 12, 2).train()
    network.norms = nn.ModuleList(OverBatch(width) for width in (32, 64))
    batch = packed(bumpy(0, 1), bumpy(1, 1, 2.0))
    assert (network(batch)[:1] - network(batch[:1])).abs().max() > 1e-3


@pytest.mark.parametrize("network", [*networks()[:2], networks()[3]], ids=lambda n: type(n).__name__)
def test_the_size_of_a_surface_changes_the_prediction(network):
    one, larger = network(packed(bumpy(4, 1))), network(packed(bumpy(4, 1, 1.05)))
    assert (one - larger).abs().max() > 1e-4


def test_normalising_channels_over_a_surface_hides_its_size():
    """Of what is linear in positions, without biases, which the first layer nearly is: the warning of `GraphNorm`."""
    layer, norm = SageLayer(3, 8), GraphNorm(8)
    layer.neighbours.bias.data.zero_()

    def normed(size):
        graph = read_surface_graph(packed(bumpy(4, 1, size)))
        return norm(layer(graph.positions, graph), graph)

    torch.testing.assert_close(normed(1.0), normed(1.05), atol=1e-4, rtol=1e-4)


def test_padding_takes_no_part():
    """The same surface in a longer array, whose normals have another unit by intent: those of the shorter are used."""
    mesh, wide = bumpy(5, 1), GraphPreparation(400)
    short, long = packed(mesh)[0], packed(mesh, preparation=wide)[0]
    long[3:6] *= PREPARATION.shape[1] / wide.shape[1]
    for network in networks():
        torch.testing.assert_close(network(short[None]), network(long[None]), atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_finite_differences():
    network = MeshSage(1, 12, 1, conv_channels=(4, 4), head=(4,), norm="layer", readout="mean").double()
    batch = packed(bumpy(6, 1), bumpy(7, 1)).double()
    vertices = batch[:, :6].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: network(torch.cat([x, batch[:, 6:]], 1)), vertices, fast_mode=True)
    assert torch.autograd.gradgradcheck(
        lambda x: network(torch.cat([x, batch[:, 6:]], 1)).sigmoid(), vertices, fast_mode=True
    )


def test_arrays_of_noise_are_read_without_an_error():
    for network in networks():
        assert network(torch.randn(2, 12, 20)).isfinite().all()


@pytest.mark.parametrize("name", ["mesh-sage", "pointnet"])
def test_images_and_unknown_options_are_refused(name):
    with pytest.raises(InputError, match="reads surfaces"):
        build_model(name, spatial_dims=2, in_channels=1, out_channels=2, image_size=(8, 8))
    for option, value in (("readout", "sum"), ("features", "colour")):
        with pytest.raises(InputError, match=f"{option}='{value}'"):
            build_model(
                name, spatial_dims=1, in_channels=12, out_channels=2, image_size=(9,), arguments={option: value}
            )
