"""What one batch holds: nothing of it beyond the call, and no more than the cap while it runs."""

import gc
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from unit_loop import weighted_outputs

from reticent.training import clipped_grad
from reticent.training.engine import footprint, strategy
from reticent.training.engine.batches import Part, TreeAdapter
from reticent.training.engine.contributions import Ghost, Kept, Remade
from reticent.training.engine.tape import Tape
from reticent.training.engine.unit_gradients import UnitGradients
from reticent.training.engine.units import Units


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.cells, self.head = nn.Embedding(7, 4), nn.GRU(4, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.cells(self.embedding(x))[0])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.norm = nn.MultiheadAttention(8, 2, batch_first=True), nn.LayerNorm(8)

    def forward(self, x):
        return self.attention(x, x, x)[0] + self.norm(x)


def convolutions():
    layers = [nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.ConvTranspose2d(4, 2, 2), nn.PReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(98, 3))


NETWORKS = {
    "convolutions": (convolutions, lambda n: torch.randn(n, 1, 8, 8)),
    "recurrent": (Recurrent, lambda n: torch.randint(7, (n, 5))),
    "attention": (Attention, lambda n: torch.randn(n, 6, 8)),
}


@contextmanager
def no_collector():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("way", ["ghost", "bmm", "bmm+recompute"])
@pytest.mark.parametrize("network", NETWORKS)
def test_nothing_of_a_batch_waits_for_the_garbage_collector(network, way):
    """Activations in a cycle would stay for many steps."""
    torch.manual_seed(0)
    build, inputs = NETWORKS[network]
    model = build()
    with strategy(way), no_collector():
        clipped_grad(model, weighted_outputs, {"x": inputs(6)}, max_norm=1.0, units=torch.tensor([0, 0, 1, 2, 2, 3]))
        assert not [found for found in gc.get_objects() if type(found) is Tape]


def work_on(model, x, memory):
    params = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return UnitGradients(model, weighted_outputs, {"x": x}, params, TreeAdapter(), 1.0, memory)


def test_gradients_whose_norms_need_none_of_them_take_no_room():
    torch.manual_seed(0)
    linear = nn.Linear(500, 400)
    with strategy("ghost"):
        assert footprint(linear, weighted_outputs, {"x": torch.randn(1, 500)}).kept == 2 * 400 * 4  # g, and the bias
    linear = nn.Linear(500, 400)
    with strategy("bmm"):
        assert footprint(linear, weighted_outputs, {"x": torch.randn(1, 500)}).kept == 400 * 501 * 4


def test_what_is_kept_stays_under_the_cap_and_the_rest_is_made_again():
    """Three layers of 1 MB for each of four units: 9 MB hold the gradients of two layers."""
    torch.manual_seed(0)
    layers = [nn.Linear(512, 512, bias=False) for _ in range(3)]
    model, x = nn.Sequential(*layers), torch.randn(4, 3, 512)
    for memory, kinds in ((2**30, [Kept] * 3), (9 * 2**20, [Remade, Kept, Kept]), (2**20, [Remade] * 3)):
        work = work_on(model, x, memory)
        with strategy("ghost"):
            each = work.footprint(torch.arange(1))
        with strategy("bmm"):
            work.each = each
            _, found, _ = next(work._found(Part(torch.arange(4), Units((1,) * 4), torch.arange(4))))
        assert [type(c) for c in found.values()] == kinds
        assert sum(c.nbytes for c in found.values() if isinstance(c, Kept | Ghost)) <= memory
