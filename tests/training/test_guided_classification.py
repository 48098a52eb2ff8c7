"""Labels learnt beside masks: the joint loss, what may be missing, and one patient's share of it."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from reticent.data import FoldPlace, assign_folds, open_cohort
from reticent.errors import InputError
from reticent.models import GuidedUNet, SmallUNet, UNetClassifier, transfer_encoder
from reticent.records import make_study
from reticent.training import (
    Classification,
    GuidedClassification,
    PreparedCohort,
    Segmentation,
    bounded_gradients,
    check_study,
    clipped_grad,
    make_plan,
)
from reticent.training.held_out import held_out_metrics
from reticent.training.preconditions import check_training

OPTIONS = {
    "privacy": {"noise_multiplier": 1.0, "delta": 0.01, "max_norm": 0.5},
    "training": {"mask_weight": 0.5, "augment": "none"},
}


@pytest.fixture
def lesions(tmp_path):
    """Eight patients: labels and masks (0 to 2), labels alone (3 to 5), masks alone (6, 7)."""
    rows = ["file,subject,mask,label,split"]
    for k in range(8):
        rng = np.random.default_rng(k)
        pixels, mask = rng.integers(0, 60, (16, 16), np.uint8), np.zeros((16, 16), np.uint8)
        mask[2:8, 2 + k : 8 + k] = 255
        pixels[mask > 0] = 200
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
        Image.fromarray(mask).save(tmp_path / f"m{k}.png")
        rows.append(f"{k}.png,p{k},{'' if 3 <= k < 6 else f'm{k}.png'},{'' if k > 5 else k % 2},train")
    (tmp_path / "lesions.csv").write_text("\n".join(rows) + "\n")
    return open_cohort(str(tmp_path / "lesions.csv"), labels=["label"])


def prepared(cohort, tmp_path, **training):
    values = {"cohort": {"uri": cohort.uri}, **OPTIONS, "training": {**OPTIONS["training"], **training}}
    study = make_study(values)
    data = PreparedCohort(cohort, study, b"key")
    data.decode(tmp_path / "cache", lambda *_: None)
    return study, data


def test_the_loss_adds_up_what_a_record_has(lesions, tmp_path):
    _, data = prepared(lesions, tmp_path)
    task = data.task
    assert isinstance(task, GuidedClassification)
    batch = data.batch(range(8))
    assert batch["targets"]["label"].tolist() == [0, 1, 0, 1, 0, 1, -1, -1]
    assert (batch["targets"]["mask"][3:6] == -1).all()
    assert batch["targets"]["mask"].unique().tolist() == [-1, 0, 1]
    torch.manual_seed(0)
    model = GuidedUNet(2, 1, 2)
    losses = task.loss_fn()(model, batch)
    logits, drawn = model(batch["inputs"]["image"])
    of_label = Classification("binary", ("0", "1")).losses(logits[:6], {"label": batch["targets"]["label"][:6]}, None)
    masks = torch.tensor([0, 1, 2, 6, 7])
    of_mask = Segmentation().losses(drawn[masks], {"mask": batch["targets"]["mask"][masks]}, None)
    expected = torch.zeros(8)
    expected[:6] += of_label
    expected[masks] += 0.5 * of_mask
    torch.testing.assert_close(losses, expected)


def test_each_patients_share_of_the_sum_is_bounded_whatever_it_has(lesions, tmp_path):
    """Losses are made large, so that every patient is clipped; the sum is that of patients taken one by one."""
    study, data = prepared(lesions, tmp_path)
    torch.manual_seed(0)
    model = check_study(study, lesions)
    loss_fn, batch = data.task.loss_fn(), data.batch(range(8))
    scaled = lambda *args: 1e4 * loss_fn(*args)  # noqa: E731
    found = bounded_gradients(study, 0, model, scaled, batch, torch.arange(8)).sum
    alone = [clipped_grad(model, scaled, data.batch([k]), max_norm=0.5).sum for k in range(8)]
    for name, value in found.items():
        torch.testing.assert_close(value, sum(one[name] for one in alone), rtol=1e-4, atol=1e-6)
    for one in alone:
        assert sum(float(value.square().sum()) for value in one.values()) ** 0.5 == pytest.approx(0.5, rel=1e-3)


def test_a_mask_alone_teaches_the_encoder_and_not_the_head(lesions, tmp_path):
    _, data = prepared(lesions, tmp_path)
    torch.manual_seed(0)
    model = GuidedUNet(2, 1, 2)
    data.task.loss_fn()(model, data.batch([6])).sum().backward()
    assert not model.head.weight.grad.any()
    assert model.down[0][0].weight.grad.abs().max() > 0


@pytest.mark.parametrize("levels", [2, 3])
def test_its_encoder_starts_from_a_segmenters_or_a_classifiers(levels):
    guided = GuidedUNet(2, 1, 3, levels=levels)
    for source in (SmallUNet(2, 1, 2, levels=levels), UNetClassifier(2, 1, 3, levels=levels)):
        transfer_encoder(source, guided)
        own = guided.state_dict()
        shared = [name for name in source.state_dict() if name.startswith(("down", "bottom"))]
        assert shared
        assert all(torch.equal(own[name], source.state_dict()[name]) for name in shared)
    image = torch.randn(2, 1, 16, 16)
    transfer_encoder(guided, source)
    torch.testing.assert_close(guided(image)[0], source(image))


def test_counted_class_weights_are_of_labels_that_are_there(lesions, tmp_path):
    _, data = prepared(lesions, tmp_path, class_weights="counted")
    assert list(data.subjects("train")) == [f"p{k}" for k in range(8)]
    assert list(data.labelled("train")) == [f"p{k}" for k in range(6)]


def test_what_does_not_fit_is_refused(lesions, tmp_path):
    study, _ = prepared(lesions, tmp_path)
    plain = make_study({"cohort": {"uri": lesions.uri}, "privacy": OPTIONS["privacy"]})
    with pytest.raises(InputError, match=r"2 images have a mask and no label, first 6.png; --mask-weight 0.5 learns"):
        PreparedCohort(lesions, plain, b"key")
    for change, message in (
        ({"model": {"name": "unet-encoder"}}, "classifies whole images; with --mask-weight say default"),
        ({"model": {"name": "reticent.models:UNetClassifier"}}, "UNetClassifier gives no pair of logits"),
        ({"cohort": {"uri": lesions.uri, "markers": {"age": "50,20"}}}, "leave out --marker"),
    ):
        wrong = make_study({**study.model_dump(mode="json", by_alias=True), **change})
        with pytest.raises(InputError, match=message):
            check_study(wrong, lesions)
    with pytest.raises(InputError, match="is for a class of an image"):
        check_study(study, replace(lesions, task="multi-label"))
    with (tmp_path / "bare.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "subject", "label"], *([f"{k}.png", f"p{k}", k % 2] for k in range(6))])
    _, data = prepared(open_cohort(str(tmp_path / "bare.csv"), labels=["label"]), tmp_path)
    with pytest.raises(InputError, match="no training image has a mask"):
        data.require_masks()


def test_a_split_without_labels_is_left_out_of_the_metrics_with_a_word(lesions, tmp_path):
    entries = [
        replace(entry, split={"p6": "val", "p7": "val", "p0": "test", "p1": "test"}.get(str(entry.subject), "train"))
        for entry in lesions.entries
    ]
    study, data = prepared(replace(lesions, entries=entries), tmp_path)
    torch.manual_seed(0)
    assert [split.split for split in held_out_metrics(check_study(study, data.cohort), data)] == ["test"]
    with pytest.warns(UserWarning, match="no record of the split val has a label"):
        check_training(data, make_plan(study))


def test_folds_are_of_the_outcomes_that_are_there(lesions):
    """A label and, on another image of the patient, a mask alone are one outcome; without any, nobody is scored."""
    entries = [replace(entry, split=None) for entry in lesions.entries]
    entries[6] = replace(entries[6], subject="p0")
    cohort = replace(lesions, entries=entries)
    splits = assign_folds(cohort, b"key", FoldPlace(3, 0), stratified=True)
    tested = {entry.subject: entry.label for entry, split in zip(entries, splits, strict=True) if split == "test"}
    by_class = [sum(label == k for label in tested.values()) for k in (0, 1)]
    assert by_class == [1, 1]
    assert splits[0] == splits[6]
    data = PreparedCohort(
        cohort, make_study({"cohort": {"uri": cohort.uri, "fold": {"folds": 3, "number": 0}}, **OPTIONS}), b"key"
    )
    assert "p7" not in {**data.labelled("train"), **data.labelled("test")}
