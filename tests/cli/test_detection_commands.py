"""Boxes on the command line: a folder in the form of the Oktoberfest set, one command, and what comes of it."""

import json

import numpy as np
import pytest
from detection_samples import write_coco_file, write_oktoberfest, write_voc_folder
from pycocotools.coco import COCO

from reticent.cli import main
from reticent.data import assign_splits, open_cohort
from reticent.records import Detections, RunFolder, read_findings
from reticent.training import counting_curve, mean_average_precision
from reticent.training.tasks import annotated_objects

QUICK = ["--model-argument", "width=16", "--image-size", "32x56", "--out"]
DAYS = "val-from=2018-05-29&test-from=2018-05-31"
SETS = {"train": list("0123456789"), "val": ["10"], "test": ["11"]}


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*arguments, code=0):
        monkeypatch.setattr("sys.argv", ["reticent", *map(str, arguments)])
        try:
            main()
            ended = 0
        except SystemExit as exit_:
            ended = exit_.code or 0
        out = capsys.readouterr()
        assert ended == code, out.err
        return out

    return run


def test_images_in_the_oktoberfest_form_train_with_one_command(run, tmp_path):
    trays, folder = write_oktoberfest(tmp_path / "trays", clips=22), tmp_path / "run"
    shown = run("data", f"boxes:{trays}?{DAYS}")
    assert "22 subjects, 66 records (3 to 3 per subject, median 3)" in shown.out
    assert "named in an earlier list too" in shown.out
    private = ["--epsilon", 8, "--delta", 1e-2, "--steps", 4, *QUICK, folder]
    assert "Classes (their names become public): Bier, Bier Mass" in run("train", f"boxes:{trays}?{DAYS}", *private).out
    done = RunFolder.open(folder)
    assert (done.state().task, len(done.state().classes), done.state().image_size) == ("detection", 15, (32, 56))
    assert done.statement().releasable
    assert done.statement().unit == "subject"
    assert done.training_subjects() == 13
    (val, test) = done.metrics().splits
    assert set(val.metrics) == {"map", "ap50", "counting_area", "count_error", "exactly_right"}
    assert val.records == 3 * val.subjects
    assert test.records == 3 * test.subjects
    report = done.report.read_text()
    for words in ("Counting area (boxes not looked at)", "Held-out image 1", "Counts, wherever boxes lie"):
        assert words in report

    out = tmp_path / "boxes.json"
    images = sorted((trays / "Bier").glob("*.jpg"))[:3]
    run("predict", folder, *images, "--out", out, "--explain", tmp_path / "pictures")
    rows = json.loads(out.read_text())
    assert {row["file_name"] for row in rows} == set(map(str, images))
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 3
    for row in rows:
        x, y, width, height = row["bbox"]
        assert 0 <= x <= x + width <= 96.01
        assert 0 <= y <= y + height <= 54.01
        assert row["category"] == done.state().classes[row["category_id"] - 1]
    assert out.stat().st_mode & 0o777 == 0o600


def test_a_little_training_finds_what_is_on_the_trays(run, tmp_path):
    """Without privacy and in the pixels of the images, although these are seen smaller: boxes overlap their things."""
    trays, folder = write_oktoberfest(tmp_path / "trays", clips=22), tmp_path / "run"
    options = ["--non-private", "--steps", 80, "--learning-rate", 0.005, "--seed", 1, "--sampling-rate", 0.2]
    size = ["--model-argument", "width=32", "--image-size", "40x72"]
    run("train", f"boxes:{trays}?{DAYS}&most=5", *options, *size, "--out", folder)
    done = RunFolder.open(folder)
    test = done.metrics().splits[-1].metrics
    assert test["ap50"].value > 0.6
    assert test["counting_area"].value > 0.6
    run("predict", folder, trays, "--out", tmp_path / "boxes.json")
    rows = json.loads((tmp_path / "boxes.json").read_text())
    cohort = open_cohort(str(trays))
    found, truth = [], []
    for i, entry in enumerate(cohort.entries):
        own = [row for row in rows if row["file_name"] == entry.key]
        boxes = np.array([row["bbox"] for row in own]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        classes = np.array([row["category_id"] - 1 for row in own], int)
        found.append(Detections(boxes, np.array([row["score"] for row in own]), classes))
        truth.append(annotated_objects(cohort.load(i).targets))
    assert np.nanmean(mean_average_precision(found, truth, 15, iou=0.5)) > 0.6


def test_numbers_of_a_coco_file_come_back_for_other_tools(run, tmp_path):
    images = {f"{k}.png": [("cell", 5, 6, 20, 18), ("clot", 35, 10, 12, 12)] for k in range(12)}
    splits = ["train"] * 8 + ["val", "test"] * 2
    path = write_coco_file(tmp_path / "boxes.json", images, subject=range(12), split=splits)
    run("train", path, "--noise-multiplier", 1, "--steps", 2, *QUICK, tmp_path / "run")
    run("predict", tmp_path / "run", path, "--out", tmp_path / "found.json")
    rows = json.loads((tmp_path / "found.json").read_text())
    assert {row["category_id"] for row in rows} <= {10, 20}
    assert {row["image_id"] for row in rows} <= set(range(100, 112))
    ground = COCO(str(path))
    assert ground.loadRes(str(tmp_path / "found.json")).getImgIds()


def test_attributes_of_the_table_are_subgroups(run, tmp_path):
    folder = write_voc_folder(tmp_path / "v", {str(k): [("cell", 5, 5, 20, 20)] for k in range(28)})
    rows = [f"{k},p{k},{'train' if k < 8 else 'test'},{'dim' if k % 2 else 'bright'}" for k in range(28)]
    (tmp_path / "who.csv").write_text("\n".join(["file,who,split,light", *rows]) + "\n")
    address = f"boxes:{folder}?table={tmp_path / 'who.csv'}"
    named = ["--column", "subject=who", "--column", "lamp=light"]
    run("train", address, *named, "--noise-multiplier", 1, "--steps", 1, *QUICK, tmp_path / "run")
    done = RunFolder.open(tmp_path / "run")
    (test,) = done.metrics().splits
    groups = {group.name: group for group in test.groups if group.kind == "attribute"}
    assert {name: group.subjects for name, group in groups.items()} == {"lamp=bright": 10, "lamp=dim": 10}
    assert groups["lamp=dim"].metrics.keys() == test.metrics.keys()
    assert "lamp=dim" in done.report.read_text()
    json.loads(run("predict", tmp_path / "run", address).out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--unit", "record", "--model", "resnet9"], "'resnet9' classifies whole images; for boxes say default"),
        (["--unit", "record", "--optimiser", "langevin"], "of which detection has none"),
        (["--unit", "record", "--class-weights", "counted"], "needs one class per record"),
        (["--unit", "record", "--class-weights", "1,2,3"], "3 numbers for 1 classes"),
        (["--unit", "record", "--patch-size", "16"], "--patch-size is for segmentation"),
        (["--unit", "record", "--label", "x"], "--label goes with surfaces, DICOM (labels=FILE), a manifest"),
        ([], "no subject (patient) identifiers; name them in a column subject of boxes:"),
    ],
)
def test_what_does_not_fit_boxes_is_refused_before_anything_is_charged(run, tmp_path, site_ledger, options, message):
    folder = write_voc_folder(tmp_path / "v", {str(k): [("cell", 5, 5, 20, 20)] for k in range(12)}, sets=SETS)
    ended = run("train", folder, "--noise-multiplier", 1, *options, "--out", tmp_path / "run", code=2)
    assert message in " ".join(ended.err.split())
    assert not (tmp_path / "run").exists()


def test_predictions_are_not_written_where_they_cannot_be(run, tmp_path):
    folder = write_voc_folder(tmp_path / "v", {str(k): [("cell", 5, 5, 20, 20)] for k in range(12)}, sets=SETS)
    run("train", folder, "--unit", "record", "--noise-multiplier", 1, "--steps", 1, *QUICK, tmp_path / "run")
    for out, message in (("a.csv", "boxes are written as COCO JSON"), ("none/a.json", "no folder")):
        ended = run("predict", tmp_path / "run", folder, "--out", tmp_path / out, code=2)
        assert message in " ".join(ended.err.split())
    (tmp_path / "a.json").write_text("[]")
    assert "exists already" in run("predict", tmp_path / "run", folder, "--out", tmp_path / "a.json", code=2).err
    on_screen = json.loads(run("predict", tmp_path / "run", folder).out)
    assert {row["category"] for row in on_screen} == {"cell"}


def test_attacks_on_records_weights_and_gradients_run_on_a_detector(run, tmp_path):
    trays = write_oktoberfest(tmp_path / "trays", clips=22)
    run("train", f"boxes:{trays}?{DAYS}", "--noise-multiplier", 1, "--steps", 2, "--seed", 3, *QUICK, tmp_path / "run")
    names = ("step", "loss", "identification", "imprint")
    run("audit", tmp_path / "run", "--seed", 3, *(part for name in names for part in ("--attack", name)))
    found = read_findings(RunFolder.open(tmp_path / "run"))
    assert {finding.attack for finding in found} == set(names)
    assert not any(finding.exceeds for finding in found)


def test_held_out_clips_are_those_of_the_run(tmp_path):
    """A split by image of three like frames a clip finds the training clips again, and looks better than it is.

    The "detector" remembers: it answers with the boxes of the most similar training image.
    """
    cohort = open_cohort(str(write_oktoberfest(tmp_path, clips=60)))
    records = [cohort.load(i) for i in range(len(cohort.entries))]
    images = np.stack([record.inputs["image"].ravel() for record in records])
    truth = [annotated_objects(record.targets) for record in records]

    def area_and_precision(splits):
        train = [i for i, split in enumerate(splits) if split == "train"]
        test = [i for i, split in enumerate(splits) if split == "test"]
        nearest = [train[np.abs(images[train] - images[i]).sum(1).argmin()] for i in test]
        found, own = [truth[i] for i in nearest], [truth[i] for i in test]
        return counting_curve(found, own, 15).area, np.nanmean(mean_average_precision(found, own, 15, iou=0.5))

    by_clip = area_and_precision(assign_splits(cohort, b"key"))
    single = open_cohort(str(tmp_path), unit="record")
    by_image = area_and_precision(assign_splits(single, b"key"))
    assert by_image[0] > by_clip[0] + 0.1
    assert by_image[1] > by_clip[1] + 0.4
