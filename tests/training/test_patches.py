"""Training on patches: one subject moves the sum by the clip norm at most, and windows add up to the whole."""

import nibabel
import numpy as np
import pytest
import torch
from torch import nn

from reticent.data import Preprocessing, Record, open_cohort
from reticent.records import make_study
from reticent.training import PreparedCohort, Segmentation, bounded_gradients, check_study, new_model, segment

TASK = Segmentation("segmentation", ("background", "organ"))
VALUES = {
    "privacy": {"noise_multiplier": 1.0, "delta": 0.01, "max_norm": 0.5},
    "model": {"arguments": {"width": 4}},
    "training": {"views": 3, "augment": "none"},
}


@pytest.fixture
def cohort(tmp_path):
    """A manifest of volumes of different sizes; the first patient has two."""
    rows = ["file,patient,mask"]
    for number in range(6):
        rng = np.random.default_rng(number)
        shape = (10 + number, 12, 9)
        voxels, organ = rng.normal(0, 1, shape).astype(np.float32), np.zeros(shape, np.uint8)
        organ[3:7, 4:8, 2:6] = 1
        for kind, values in (("v", voxels + 2 * organ), ("m", organ)):
            nibabel.save(nibabel.Nifti1Image(values, np.diag([1, 1, 2, 1])), tmp_path / f"{kind}{number}.nii.gz")
        rows.append(f"v{number}.nii.gz,{max(0, number - 1)},m{number}.nii.gz")
    (tmp_path / "volumes.csv").write_text("\n".join(rows) + "\n")
    return open_cohort(str(tmp_path / "volumes.csv"))


def prepared(cohort, tmp_path, **options):
    study = make_study({"cohort": {"uri": cohort.uri, "patch_size": (8, 8, 8), **options}, **VALUES})
    data = PreparedCohort(cohort, study, b"key")
    data.decode(tmp_path / "cache", lambda *_: None)
    return study, data


def test_all_patches_of_a_patient_are_clipped_together(cohort, tmp_path):
    """Weights are made large, so that every patient is clipped: each moves the sum by the clip norm exactly."""
    study, data = prepared(cohort, tmp_path)
    torch.manual_seed(0)
    model = check_study(study, cohort)
    loss_fn, units = data.task.loss_fn(), [0, 0, 1]
    batch = data.training_batch([0, 1, 2], units)
    assert batch["inputs"]["image"].shape == (9, 1, 8, 8, 8)
    assert batch["share"].tolist() == [0.5] * 6 + [1.0] * 3
    scaled = lambda *args: 1e4 * loss_fn(*args)  # noqa: E731
    both = bounded_gradients(study, 0, model, scaled, batch, torch.tensor(units))
    assert both.n_units == 2
    alone = {name: {k: x[:6] for k, x in batch[name].items()} for name in ("inputs", "targets")}
    first = bounded_gradients(study, 0, model, scaled, {**alone, "share": batch["share"][:6]}, torch.tensor([0, 0]))
    moved = sum(float((both.sum[name] - first.sum[name]).square().sum()) for name in both.sum) ** 0.5
    assert moved == pytest.approx(0.5, rel=1e-4)


def test_a_patients_gradient_is_the_mean_over_its_patches(cohort, tmp_path):
    study, data = prepared(cohort, tmp_path)
    torch.manual_seed(1)
    model = check_study(study, cohort)
    loss_fn, batch = data.task.loss_fn(), data.training_batch([3], [0])
    gentle = lambda *args: 1e-4 * loss_fn(*args)  # noqa: E731
    found = bounded_gradients(study, 0, model, gentle, batch, torch.tensor([0])).sum
    (gentle(model, batch).sum() / 3).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-9, check_dtype=False)


@pytest.mark.parametrize("spacing", [None, (2.0,)])
def test_windows_of_a_network_without_surroundings_give_what_the_whole_gives(cohort, tmp_path, spacing):
    """A pointwise network says the same of a voxel in any window, and labels come back on the record's own grid."""
    _, data = prepared(cohort, tmp_path, **({} if spacing is None else {"spacing": spacing}))
    model = nn.Conv3d(1, 2, 1)
    nn.init.constant_(model.weight, 1.0)
    model.weight.data[0] = -1
    nn.init.zeros_(model.bias)
    loaded = cohort.load(5)
    found = segment(model, data.whole(5), (15, 12, 9), data.preprocessing, loaded.spacing)
    assert found.shape == (15, 12, 9)
    if spacing is None:
        standardised = Preprocessing().apply(loaded).inputs["image"][0]
        np.testing.assert_array_equal(found, standardised > 0)


def test_small_images_are_padded_and_the_padding_is_taken_off_again():
    record = Record("s", {"image": np.ones((1, 3, 20), np.float32)}, {"mask": np.ones((3, 20), np.int64)}, {})
    preprocessing = Preprocessing(least=(8, 8))
    made = preprocessing.apply(record)
    assert made.inputs["image"].shape == (1, 8, 20)
    assert made.targets["mask"].sum() == 60
    np.testing.assert_array_equal(preprocessing.uncut(made.targets["mask"][None], (3, 20), None), np.ones((1, 3, 20)))


def test_an_untrained_network_has_windows_of_the_patch_size(cohort, tmp_path):
    study, data = prepared(cohort, tmp_path)
    model = new_model(study, data.task, data.channels, data.image_size)
    (metrics,) = [data.task.evaluate(model, data, [0, 5], "test")]
    assert metrics.records == 2
    assert 0 <= metrics.metrics["dice"].value <= 1
