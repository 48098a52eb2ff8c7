"""Learning without labels: what is hidden, what is learnt from it, and what it starts."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from reticent.data import open_cohort
from reticent.errors import InputError
from reticent.records import make_study
from reticent.training import PreparedCohort, Restoration, bounded_gradients, check_study, clipped_grad

TASK = Restoration()


@pytest.fixture
def stripes(tmp_path):
    """Ten patients with images of one grey value each, and no label anywhere; some patients have two images."""
    rows = ["file,patient,split"]
    for k in range(14):
        Image.fromarray(np.full((32, 32), 40 + 12 * k, np.uint8)).save(tmp_path / f"{k}.png")
        rows.append(f"{k}.png,{k % 10},{('train', 'unlabelled', 'test')[k % 10 % 3]}")
    (tmp_path / "images.csv").write_text("\n".join(rows) + "\n")
    return open_cohort(str(tmp_path / "images.csv"), pretrain=True)


def prepared(cohort, tmp_path, **options):
    values = {"cohort": {"uri": cohort.uri, "pretrain": True, **options}, "training": {"augment": "none"}}
    study = make_study({**values, "privacy": {"noise_multiplier": 1.0, "delta": 0.01, "max_norm": 0.5}})
    data = PreparedCohort(cohort, study, b"key")
    data.decode(tmp_path / "cache", lambda *_: None)
    return study, data


@pytest.mark.parametrize("size", [(32, 32), (16, 24), (20, 12, 16)])
def test_about_half_of_the_blocks_is_hidden_and_blocks_are_whole(size):
    hidden = TASK.made_up_targets(200, size, torch.Generator().manual_seed(0))["hidden"]
    assert hidden.shape == (200, *size)
    assert hidden.float().mean().item() == pytest.approx(0.5, abs=0.02)  # 12,800 blocks at least: five deviations
    if all(side % 8 == 0 for side in size):
        for axis, side in enumerate(size, start=1):
            blocks = hidden.unflatten(axis, (8, side // 8))
            assert (blocks == blocks.select(axis + 1, 0).unsqueeze(axis + 1)).all()


def test_the_loss_looks_at_hidden_pixels_of_a_network_that_did_not_see_them(stripes, tmp_path):
    """A network that returns its input gives 0 where pixels are hidden: the loss is their mean square."""
    _, data = prepared(stripes, tmp_path)
    batch = data.batch([0, 3, 7])
    image, hidden = batch["inputs"]["image"], batch["targets"]["hidden"]
    losses = TASK.loss_fn()(nn.Identity(), batch)
    expected = [float((image[k, 0][hidden[k]] ** 2).mean()) for k in range(3)]
    torch.testing.assert_close(losses, torch.tensor(expected))
    moved = {**batch, "inputs": {"image": torch.where(hidden[:, None], image + 1, image)}}
    constant = lambda x: torch.zeros_like(x)  # noqa: E731
    assert not torch.equal(TASK.loss_fn()(constant, moved), losses)
    seen = []
    TASK.loss_fn()(lambda x: seen.append(x) or x, moved)
    assert torch.equal(seen[0], image.masked_fill(hidden[:, None], 0))


def test_other_blocks_are_hidden_at_every_step_and_the_same_ones_in_evaluation(stripes, tmp_path):
    _, data = prepared(stripes, tmp_path)
    first, second = (data.training_batch([0, 1], [0, 1])["targets"]["hidden"] for _ in range(2))
    assert not torch.equal(first, second)
    model = nn.Conv2d(1, 1, 3, padding=1)
    found = [TASK.evaluate(model, data, range(14), "test").metrics["mse"].value for _ in range(2)]
    assert found[0] == found[1]


def test_metrics_are_those_of_the_mean_of_each_image_s_hidden_pixels(stripes, tmp_path):
    """Zero everywhere: of random images the error is the variance and the square of the mean, and r2 is below 0."""
    _, data = prepared(stripes, tmp_path)
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.normal(0.3, 1, (14, 1, 32, 32)).astype(np.float32))
    data.batch = lambda records: {"inputs": {"image": noise[list(records)]}}
    nothing = nn.Conv2d(1, 1, 1)
    for parameter in nothing.parameters():
        nn.init.zeros_(parameter)
    metrics = TASK.evaluate(nothing, data, range(14), "test").metrics
    assert metrics["mse"].value == pytest.approx(1.09, abs=0.05)
    assert metrics["r2"].value == pytest.approx(-0.09, abs=0.02)


def test_each_patients_share_of_the_sum_is_bounded(stripes, tmp_path):
    study, data = prepared(stripes, tmp_path)
    torch.manual_seed(0)
    model = check_study(study, stripes)
    batch, units = data.batch([0, 10, 1], [0, 0, 1]), torch.tensor([0, 0, 1])
    assert batch["share"].tolist() == [0.5, 0.5, 1.0]
    scaled = lambda *args: 1e4 * TASK.loss_fn()(*args)  # noqa: E731
    both = bounded_gradients(study, 0, model, scaled, batch, units).sum
    alone = {name: {k: x[2:] for k, x in batch[name].items()} for name in ("inputs", "targets")}
    one = clipped_grad(model, scaled, {**alone, "share": batch["share"][2:]}, max_norm=0.5).sum
    moved = sum(float((both[name] - one[name]).square().sum()) for name in both) ** 0.5
    assert moved == pytest.approx(0.5, rel=1e-3)


def test_patches_of_large_images_are_restored_too(stripes, tmp_path):
    _, data = prepared(stripes, tmp_path, patch_size=(16, 16))
    batch = data.training_batch([0, 1], [0, 1])
    assert batch["inputs"]["image"].shape[2:] == batch["targets"]["hidden"].shape[1:] == (16, 16)
    assert data.training_batch([], [])["targets"]["hidden"].shape == (0, 16, 16)  # nobody was drawn at a step
    TASK.evaluate(nn.Conv2d(1, 1, 1), data, range(14), "test")


def test_labels_are_not_looked_at_and_whoever_is_not_held_out_trains(stripes, tmp_path):
    assert stripes.task == "restoration"
    assert {entry.label for entry in stripes.entries} == {None}
    assert {entry.split for entry in stripes.entries} == {"train", "test"}
    with pytest.raises(InputError, match="which column is the label"):
        open_cohort(stripes.uri)
    with pytest.raises(InputError, match="--pretrain learns from images alone"):
        make_study({"cohort": {"uri": "x.csv", "pretrain": True, "labels": ["a"]}, "privacy": {"non_private": True}})
