"""Detection as a task: sizes of images, and metrics in the pixels of the images."""

import numpy as np
import pytest
import torch
from detection_samples import paint, write_voc_folder
from torch import nn

from reticent.data import open_cohort
from reticent.records import make_study
from reticent.training import PreparedCohort
from reticent.training.centre_maps import heat_maps

IMAGES = {str(k): [("cell", 4 + k, 6, 24 + k, 22), ("clot", 30, 20 + k, 56, 44)] if k % 3 else [] for k in range(12)}


class Knows(nn.Module):
    """Answers with maps that say exactly what the targets say."""

    def __init__(self, targets, grid):
        super().__init__()
        boxes, objects = targets["boxes"], targets["objects"]
        heat = heat_maps(boxes, objects, 2, grid).clamp(1e-6, 1 - 1e-6)
        self.maps = torch.cat([torch.logit(heat), torch.zeros(len(boxes), 4, *grid)], 1)
        for n, k in torch.nonzero(objects >= 0).tolist():
            x0, y0, x1, y1 = (boxes[n, k] / 4).tolist()
            x, y = (x0 + x1) / 2, (y0 + y1) / 2
            self.maps[n, 2:, int(y), int(x)] = torch.tensor([np.log(x1 - x0), np.log(y1 - y0), x % 1, y % 1]).float()

    def forward(self, image):
        return self.maps[: len(image)]


def prepared(folder, **cohort):
    study = make_study({"cohort": {"uri": str(folder), "unit": "record", **cohort}, "privacy": {"non_private": True}})
    return PreparedCohort(open_cohort(str(folder), unit="record"), study, b"key")


@pytest.mark.parametrize("size", [(48, 64), (40, 40), (96, 200)])
def test_a_network_that_knows_all_boxes_has_perfect_metrics_at_any_size(tmp_path, size):
    """Boxes that are resized and padded with their images come back to the pixels they were annotated in."""
    folder = write_voc_folder(tmp_path / "v", IMAGES, shape=(48, 64), sets={"train": "01", "test": list(IMAGES)[2:]})
    data = prepared(folder, image_size=size)
    data.decode(tmp_path / "cache", lambda *_: None)
    records = [i for i, split in enumerate(data.splits) if split == "test"]
    grid = data.task.output_shape(size)[1:]
    found = data.task.evaluate(Knows(data.batch(records)["targets"], grid), data, records, "test")
    values = {name: measured.value for name, measured in found.metrics.items()}
    assert values == pytest.approx(
        {"map": 1, "ap50": 1, "counting_area": 1, "count_error": 0, "exactly_right": 1}, abs=1e-9
    )


def test_without_a_declared_size_images_keep_their_proportions(tmp_path):
    large = write_voc_folder(tmp_path / "large", IMAGES, shape=(480, 640), sets={"train": list(IMAGES)})
    assert prepared(large).image_size == (120, 160)
    small = write_voc_folder(tmp_path / "small", IMAGES, shape=(48, 64), sets={"train": list(IMAGES)})
    assert prepared(small).image_size == (48, 64)
    odd = write_voc_folder(tmp_path / "odd", IMAGES, shape=(50, 66), sets={"train": list(IMAGES)})
    assert prepared(odd).image_size == (48, 64)
    paint(small / "JPEGImages" / "3.png", (96, 128), [])
    assert prepared(small).image_size == (160, 160)
    assert prepared(small, image_size=(64,)).image_size == (64, 64)
