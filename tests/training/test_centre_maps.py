"""Heat maps of centres, the loss of an image, boxes from maps, and the clipped sum of such losses."""

import math

import pytest
import torch

from reticent.errors import InputError
from reticent.models import CentreDetector
from reticent.training import Detection, clipped_grad
from reticent.training.centre_maps import PER_IMAGE, boxes_of_maps, centre_loss, grid_of, heat_maps

GRID = (6, 8)


def objects_of(*things, most=4):
    """Boxes (1, most, 4) and classes (1, most) of (class, x0, y0, x1, y1)."""
    boxes, classes = torch.zeros(1, most, 4), torch.full((1, most), -1)
    for k, (label, *box) in enumerate(things):
        boxes[0, k], classes[0, k] = torch.tensor(box, dtype=torch.float32), label
    return boxes, classes


def perfect_maps(boxes, objects, classes, grid):
    """Maps that say exactly what the targets say."""
    heat = heat_maps(boxes, objects, classes, grid)
    maps = torch.cat([torch.logit(heat.clamp(1e-6, 1 - 1e-6)), torch.zeros(len(boxes), 4, *grid)], 1)
    for n, own in enumerate(objects):
        for k in torch.nonzero(own >= 0).flatten():
            x, y = (boxes[n, k, :2] + boxes[n, k, 2:]) / 8
            width, height = (boxes[n, k, 2:] - boxes[n, k, :2]) / 4
            values = torch.stack([width.log(), height.log(), x - x.floor(), y - y.floor()])
            maps[n, classes:, int(y), int(x)] = values
    return maps


def test_a_heat_map_is_a_gaussian_around_the_cell_of_the_centre():
    boxes, objects = objects_of((1, 4, 2, 28, 14))  # 6 x 3 cells around (4, 2): sigma 0.6
    heat = heat_maps(boxes, objects, 2, GRID)
    assert heat.shape == (1, 2, *GRID)
    assert not heat[0, 0].any()
    assert heat[0, 1, 2, 4] == 1
    assert heat[0, 1, 3, 6] == pytest.approx(math.exp(-(1 + 4) / (2 * 0.6**2)))
    wide, _ = objects_of((0, 0, 0, 32, 24))  # 8 x 6 cells: sigma 1
    assert heat_maps(wide, objects, 2, GRID)[0, 1, 3, 5] == pytest.approx(math.exp(-1 / 2))


def test_of_two_objects_of_a_class_the_nearer_one_counts():
    boxes, objects = objects_of((0, 0, 0, 8, 8), (0, 8, 0, 16, 8), (1, 16, 16, 24, 24))
    both = heat_maps(boxes, objects, 2, GRID)[0]
    alone = [heat_maps(*objects_of(thing), 2, GRID)[0] for thing in ((0, 0, 0, 8, 8), (0, 8, 0, 16, 8))]
    torch.testing.assert_close(both[0], torch.maximum(alone[0][0], alone[1][0]))
    assert both[0, 1, 1] == both[0, 1, 3] == both[1, 5, 5] == 1


def test_the_loss_of_one_object_in_closed_form():
    """Logits 0 everywhere, so that p = 1/2, and regressions 0."""
    boxes, objects = objects_of((0, 4, 4, 20, 12))  # 4 x 2 cells, centre (3, 2), no offset
    maps = torch.zeros(1, 6, *GRID)
    heat = heat_maps(boxes, objects, 2, GRID)[0]
    at_centre = 0.25 * math.log(2)
    elsewhere = float(((1 - heat) ** 4).sum() * 0.25 * math.log(2))
    regression = 0.5 * (math.log(4) + math.log(2))
    loss = centre_loss(maps, boxes, objects)
    assert loss.item() == pytest.approx((at_centre + elsewhere + regression) / PER_IMAGE, rel=1e-5)
    weighted = centre_loss(maps, boxes, objects, torch.tensor([3.0, 1.0]))
    other = float(((1 - heat[1]) ** 4).sum() * 0.25 * math.log(2))
    assert weighted.item() == pytest.approx((3 * (at_centre + elsewhere - other + regression) + other) / PER_IMAGE)


def test_perfect_maps_have_next_to_no_loss_and_give_their_boxes_back():
    things = [(0, 3, 2, 17, 13), (2, 18, 5, 30, 22), (1, 1, 15, 9, 21)]
    boxes, objects = objects_of(*things)
    maps = perfect_maps(boxes, objects, 3, GRID)
    assert centre_loss(maps, boxes, objects).item() < 0.01 < centre_loss(0 * maps, boxes, objects).item() / 100
    found, scores, classes = boxes_of_maps(maps[0], 100)
    best = scores > 0.9
    assert best.sum() == 3
    for label, *box in things:
        torch.testing.assert_close(found[best][classes[best] == label][0], torch.tensor(box, dtype=torch.float32))
    assert (scores[:-1] >= scores[1:]).all()


def test_of_neighbouring_cells_only_the_highest_is_an_object():
    maps = torch.full((5, 4, 4), -9.0)
    maps[0, 1, 1], maps[0, 1, 2], maps[0, 3, 3] = 2.0, 1.0, 0.5
    _, scores, _ = boxes_of_maps(maps, 3)
    assert scores[:2].tolist() == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-0.5))])
    assert scores[2] < 1e-3


def test_padding_and_the_order_of_objects_change_nothing():
    torch.manual_seed(0)
    maps = torch.randn(1, 6, *GRID)
    things = [(0, 3, 2, 17, 13), (1, 18, 5, 30, 22)]
    expected = centre_loss(maps, *objects_of(*things))
    torch.testing.assert_close(centre_loss(maps, *objects_of(*reversed(things))), expected)
    torch.testing.assert_close(centre_loss(maps, *objects_of(*things, most=9)), expected)
    assert centre_loss(maps, *objects_of()).isfinite().all()


def made_up(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    task = Detection("detection", ("a", "b"))
    inputs = {"image": torch.randn(count, 3, 40, 52, generator=generator)}
    targets = task.made_up_targets(count, (40, 52), generator)
    return task, {"inputs": inputs, "targets": targets, "share": torch.ones(count)}


def rows(batch, which):
    return {
        "inputs": {name: x[which] for name, x in batch["inputs"].items()},
        "targets": {name: x[which] for name, x in batch["targets"].items()},
        "share": batch["share"][which],
    }


def detector():
    torch.manual_seed(1)
    return CentreDetector(2, 3, 6, width=16)


def test_the_loss_of_an_image_does_not_depend_on_the_others():
    task, batch = made_up(5)
    loss_fn, model = task.loss_fn(), detector()
    together = loss_fn(model, batch)
    for k in range(5):
        torch.testing.assert_close(together[k : k + 1], loss_fn(model, rows(batch, [k])))
    assert together.shape == (5,)


@pytest.mark.parametrize("max_norm", [0.05, 1e6])
def test_the_clipped_sum_equals_a_loop_over_images(max_norm):
    task, batch = made_up(4)
    loss_fn, model = task.loss_fn(), detector()
    found = clipped_grad(model, loss_fn, batch, max_norm=max_norm)
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for k in range(4):
        gradients = torch.autograd.grad(loss_fn(model, rows(batch, [k])).sum(), list(model.parameters()))
        norm = torch.sqrt(sum(g.square().sum() for g in gradients))
        assert (norm > max_norm) == (max_norm < 1)
        for name, g in zip(expected, gradients, strict=True):
            expected[name] += g * min(1.0, max_norm / float(norm))
    for name, value in expected.items():
        assert (found.sum[name] - value).abs().max() < 1e-5


def test_records_can_be_vectorised_over():
    task, batch = made_up(4)
    maps, targets = detector()(batch["inputs"]["image"]).detach(), batch["targets"]

    def one(maps, boxes, objects):
        return centre_loss(maps[None], boxes[None], objects[None])[0]

    losses = torch.func.vmap(one)(maps, targets["boxes"], targets["objects"])
    torch.testing.assert_close(losses, task.losses(maps, targets, None))


def test_adding_a_clip_of_three_frames_changes_the_sum_by_at_most_the_norm():
    """With the frame for unit it changes by up to three times as much: clips of like frames do not cancel."""
    task, batch = made_up(4)
    loss_fn, model, max_norm = task.loss_fn(), detector(), 0.05
    frames = {
        "inputs": {name: torch.cat([x, x[-1:], x[-1:]]) for name, x in batch["inputs"].items()},
        "targets": {name: torch.cat([x, x[-1:], x[-1:]]) for name, x in batch["targets"].items()},
    }
    by_clip = {**frames, "share": torch.tensor([1.0, 1, 1, 1 / 3, 1 / 3, 1 / 3])}
    before = clipped_grad(model, loss_fn, rows(batch, [0, 1, 2]), max_norm=max_norm).sum

    def change(whole, units):
        after = clipped_grad(model, loss_fn, whole, max_norm=max_norm, units=units).sum
        return math.sqrt(sum(float((after[name] - before[name]).square().sum()) for name in before))

    assert change(by_clip, torch.tensor([0, 1, 2, 3, 3, 3])) <= max_norm * (1 + 1e-6)
    by_frame = {**frames, "share": torch.ones(6)}
    assert change(by_frame, None) > 2.5 * max_norm


def test_maps_have_a_cell_for_every_four_pixels_begun():
    assert grid_of((120, 162)) == (30, 41)
    assert Detection("detection", ("a", "b")).output_shape((33, 32)) == (6, 9, 8)


def test_a_network_that_couples_images_is_refused():
    task, batch = made_up(2)
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(3), detector())
    with pytest.raises(InputError, match="BatchNorm"):
        clipped_grad(model, task.loss_fn(), batch, max_norm=1.0)
