"""Augmentation: each record alone, masks with their images, intensity kept."""

import pytest
import torch

from reticent.training import augmentation
from reticent.training.augmentation import augment


def batch_of(size, count=6, channels=1, blobs=False):
    torch.manual_seed(1)
    image = torch.randn(count, channels, *size)
    mask = torch.zeros(count, *size, dtype=torch.long)
    middle = tuple(slice(side // 4, side - side // 4) for side in size)
    mask[(slice(None), *middle)] = 1
    if blobs:
        image = mask[:, None].float()
    return {"inputs": {"image": image}, "targets": {"mask": mask}, "share": torch.ones(count)}


@pytest.mark.parametrize("size", [(20, 28), (12, 16, 20)])
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_and_range_are_kept_and_pixels_change(size, channels):
    batch = batch_of(size, channels=channels)
    before, after = batch["inputs"]["image"], augment(batch)["inputs"]["image"]
    assert after.shape == before.shape
    assert not torch.allclose(after, before, atol=0.1)
    assert (after.flatten(2).amin(2) >= before.flatten(2).amin(2) - 1e-5).all()
    assert (after.flatten(2).amax(2) <= before.flatten(2).amax(2) + 1e-5).all()


def test_the_grey_curve_is_bent_up_and_down():
    batch = batch_of((20, 20), count=64)
    change = augment(batch)["inputs"]["image"].mean((1, 2, 3)) - batch["inputs"]["image"].mean((1, 2, 3))
    assert change.min() < -0.1
    assert change.max() > 0.1


@pytest.mark.parametrize("size", [(40, 56), (24, 32, 40)])
def test_a_mask_moves_with_its_image(size):
    after = augment(batch_of(size, blobs=True))
    image, mask = after["inputs"]["image"][:, 0], after["targets"]["mask"]
    assert mask.dtype == torch.long
    assert set(mask.unique().tolist()) == {0, 1}
    middle = (image.flatten(1).amax(1) + image.flatten(1).amin(1)) / 2
    agree = ((image > middle.reshape(-1, *[1] * len(size))) == (mask == 1)).float().mean()
    assert agree > 0.97
    assert ((mask == 1) != (batch_of(size)["targets"]["mask"] == 1)).float().mean() > 0.02


def test_a_record_s_result_does_not_depend_on_the_others():
    whole = batch_of((16, 16))
    other = {**whole, "inputs": {"image": torch.cat([whole["inputs"]["image"][:1], torch.full((5, 1, 16, 16), 9.0)])}}
    torch.manual_seed(2)
    first = augment(whole)["inputs"]["image"][0]
    torch.manual_seed(2)
    torch.testing.assert_close(augment(other)["inputs"]["image"][0], first, rtol=0, atol=0)


def test_rotation_is_rigid_in_pixels_also_in_images_that_are_not_square(monkeypatch):
    monkeypatch.setattr(augmentation, "_ZOOM", 0.0)
    monkeypatch.setattr(augmentation, "_SHIFT", 0.0)
    size = (10, 40)
    motion = augmentation._random_motion(4, torch.Size(size))
    half = torch.tensor([size[1], size[0]]) / 2  # x, y
    in_pixels = half[:, None] * motion[:, :, :2] / half
    torch.testing.assert_close(in_pixels @ in_pixels.transpose(1, 2), torch.eye(2).expand(4, 2, 2))


def test_constant_and_empty_batches_stay():
    constant = {"inputs": {"image": torch.full((2, 1, 8, 8), 3.0)}, "targets": {}, "share": torch.ones(2)}
    torch.testing.assert_close(augment(constant)["inputs"]["image"], torch.full((2, 1, 8, 8), 3.0))
    empty = batch_of((8, 8), count=0)
    assert augment(empty) is empty


def test_with_no_motion_and_no_gamma_nothing_changes(monkeypatch):
    for name in ("_ROTATION", "_ZOOM", "_SHIFT", "_LOG_GAMMA"):
        monkeypatch.setattr(augmentation, name, 0.0)
    batch = batch_of((9, 14))
    after = augment(batch)
    torch.testing.assert_close(after["inputs"]["image"], batch["inputs"]["image"], atol=1e-4, rtol=0)
    assert torch.equal(after["targets"]["mask"], batch["targets"]["mask"])


@pytest.mark.parametrize("size", [(48, 48), (40, 72)])
def test_boxes_move_with_their_images(size):
    """Bright rectangles, and the boxes around them before and after: their edges agree to a pixel and a half."""
    count, edges = 40, torch.tensor([12.0, 10.0, 30.0, 26.0])
    image = torch.zeros(count, 1, *size)
    image[:, :, 10:26, 12:30] = 1
    boxes = torch.zeros(count, 3, 4)
    boxes[:, 0] = edges
    objects = torch.tensor([[2, -1, -1]]).repeat(count, 1)
    torch.manual_seed(4)
    after = augment({"inputs": {"image": image}, "targets": {"boxes": boxes, "objects": objects}})
    moved = after["targets"]["boxes"]
    assert after["targets"]["objects"].equal(objects)
    assert moved.dtype == torch.float32
    assert not moved[:, 1:].any()
    assert (moved[:, 0] - edges).abs().amax() > 2
    for picture, box in zip(after["inputs"]["image"][:, 0], moved[:, 0], strict=True):
        rows, columns = (torch.nonzero((picture > 0.5).any(axis)).flatten() for axis in (1, 0))
        found = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()
        assert (
            found - box
        ).abs().max() <= 1.5 + 18 * 0.085 / 2  # an upright box around a turned one is a little larger


def test_objects_that_leave_the_image_are_dropped(monkeypatch):
    monkeypatch.setattr(augmentation, "_SHIFT", 1.0)
    image = torch.zeros(30, 1, 32, 32)
    boxes = torch.tensor([[[2.0, 2.0, 8.0, 8.0]]]).repeat(30, 1, 1)
    torch.manual_seed(0)
    targets = {"boxes": boxes, "objects": torch.zeros(30, 1, dtype=torch.long)}
    after = augment({"inputs": {"image": image}, "targets": targets})["targets"]
    gone = after["objects"][:, 0] == -1
    assert gone.any()
    assert not gone.all()
    assert not after["boxes"][gone].any()
    assert (after["boxes"][~gone] >= 0).all()
    assert (after["boxes"][~gone] <= 32).all()


def test_padding_moves_with_the_middle_of_its_slices(monkeypatch):
    """Where a volume of ones in padding of zeros fills the plane, the middle voxel of a moved slice tells."""
    monkeypatch.setattr(augmentation, "_LOG_GAMMA", 0.0)
    image, padding = torch.zeros(40, 1, 41, 15, 21), torch.zeros(40, 41 + 15 + 21)
    for k in range(40):
        before, after = 3 + k % 7, 41 - k % 5 - 2
        image[k, :, before:after] = 1
        padding[k, :41] = 1 - image[k, 0, :, 0, 0]
    torch.manual_seed(0)
    after = augment({"inputs": {"image": image, "padding": padding}, "targets": {}})["inputs"]
    assert not after["padding"][:, 41:].any()
    torch.testing.assert_close(after["padding"][:, :41], (after["image"][:, 0, :, 7, 10] < 0.5).float())
    assert (after["padding"] != padding).any(1).sum() > 20
