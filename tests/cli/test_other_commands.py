"""`predict`, `data`, `ledger`, `report` and `cite` on finished runs."""

import csv
import io
import json
import re
import shutil
import sqlite3
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from reticent.governance import Ledger

NOISE = ["--noise-multiplier", "1.5"]


@pytest.fixture
def trained(reticent, write_cohort, small):
    """The manifest of a finished run in the folder `run`."""
    manifest = write_cohort()
    assert reticent("train", manifest, *NOISE, *small, "--out", "run").code == 0
    return manifest


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def refused(ended, *words):
    assert ended.code == 2, ended
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.err
    return True


def test_predict_gives_a_row_of_class_probabilities_for_every_file_or_record(reticent, trained):
    images = trained.parent / "images"
    ended = reticent("predict", "run", images / "1-0.png", images / "2-1.png")
    assert ended.code == 0
    rows = rows_of(ended.printed)
    assert [list(row) for row in rows] == [["file", "0", "1"]] * 2
    assert [row["file"] for row in rows] == [str(images / "1-0.png"), str(images / "2-1.png")]
    assert reticent("predict", "run", trained, "--out", "table.csv").code == 0
    table = {row["file"]: row for row in rows_of(Path("table.csv").read_text())}
    assert len(table) == 60
    for row in table.values():
        assert float(row["0"]) + float(row["1"]) == pytest.approx(1, abs=2e-6)
    assert [table[name]["1"] for name in ("1-0.png", "2-1.png")] == [row["1"] for row in rows]
    assert len({row["1"] for row in table.values()}) > 30
    assert reticent("predict", "run", trained, "--out", "table.json").code == 0
    values = json.loads(Path("table.json").read_text())
    assert {row["file"]: f"{row['1']:.6f}" for row in values} == {name: row["1"] for name, row in table.items()}


def test_a_colour_image_is_brought_to_the_channels_of_the_training_images(reticent, trained):
    path = trained.parent / "images" / "1-0.png"
    with Image.open(path) as image:
        image.convert("RGB").save("colour.png")
    grey, colour = rows_of(reticent("predict", "run", path, "colour.png").printed)
    assert float(colour["1"]) == pytest.approx(float(grey["1"]), abs=1e-4)


def test_predict_finds_the_columns_that_training_was_told(reticent, write_cohort, small):
    manifest = write_cohort(header="scan,person,finding,sex,part")
    names = ["--column", "file=scan", "--column", "subject=person", "--column", "split=part", "--label", "finding"]
    assert reticent("train", manifest, *NOISE, *small, *names, "--out", "run").code == 0
    assert len(rows_of(reticent("predict", "run", manifest).printed)) == 60


@pytest.mark.parametrize("columns", ["file", "file,label,split"])
def test_predict_needs_no_labels_and_no_training_records(reticent, trained, columns):
    lines = [columns, *(f"{k}-0.png" + ",,test" * ("," in columns) for k in range(3))]
    (trained.parent / "new.csv").write_text("\n".join(lines) + "\n")
    rows = rows_of(reticent("predict", "run", trained.parent / "new.csv").printed)
    assert [row["file"] for row in rows] == [f"{k}-0.png" for k in range(3)]


def test_predict_takes_a_folder_of_images_and_names_with_a_colon(reticent, trained):
    shutil.copytree(trained.parent / "images", "new")
    Path("new/1-0.png").rename("new/a:b.png")
    assert len(rows_of(reticent("predict", "run", "new").printed)) == 60
    assert len(rows_of(reticent("predict", "run", "new/a:b.png").printed)) == 1
    Path("empty").mkdir()
    assert refused(reticent("predict", "run", "empty"), "empty: no files of these kinds")


def test_predict_overwrites_nothing_and_refuses_what_it_cannot_read(reticent, trained):
    image = trained.parent / "images" / "1-0.png"
    for name in ("mine.csv", "mine.json"):
        Path(name).write_text("mine")
        assert refused(reticent("predict", "run", image, "--out", name), f"{name}: exists already", "--out")
        assert Path(name).read_text() == "mine"
    Path("broken.png").write_bytes(image.read_bytes()[:60])
    Path("notes.txt").write_text("notes")
    for name in ("broken.png", "notes.txt", "gone.png", "gone.csv"):
        assert refused(reticent("predict", "run", name, "--out", "new.csv"), name)
    assert refused(reticent("predict", "run", image, "--out", "new.xls"), "new.xls", ".csv or .json")
    assert refused(reticent("predict", "gone", image), "gone: not a run folder")
    assert not list(Path().glob("new.*"))


def test_a_segmenter_predicts_masks_on_the_grid_of_each_input(reticent, write_volumes, small):
    manifest = write_volumes()
    ended = reticent("train", manifest, *NOISE, *small, "--out", "run")
    assert ended.code == 0
    assert "dice" in ended.out
    files = [manifest.parent / "images" / f"p.{k}.nii.gz" for k in (0, 1)]
    ended = reticent("predict", "run", *files, "--out", "masks")
    assert ended.code == 0
    for file in files:
        source, mask = nibabel.load(file), nibabel.load(Path("masks") / file.name.replace(".nii", "_mask.nii"))
        assert mask.shape == source.shape == (8, 12, 4)
        np.testing.assert_array_equal(mask.affine, source.affine)
        assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 1}
        assert str(file) in ended.out
    before = {path: path.read_bytes() for path in Path("masks").iterdir()}
    assert refused(reticent("predict", "run", files[0], "--out", "masks"), "p.0_mask.nii.gz: exists already", "--out")
    Path("cut.nii.gz").write_bytes(files[0].read_bytes()[:-200])
    for name in ("cut.nii.gz", "gone.nii.gz"):
        assert refused(reticent("predict", "run", name, "--out", "masks"), name)
    assert refused(reticent("predict", "run", files[0], "--out", "cut.nii.gz"), "cut.nii.gz: cannot be made", "--out")
    assert refused(reticent("predict", "run", files[0], files[0], "--out", "twice"), "another file has this name")
    assert {path: path.read_bytes() for path in Path("masks").iterdir()} == before
    assert reticent("predict", "run", manifest, "--out", "all").code == 0
    assert len(list(Path("all").iterdir())) == 10


OWN_NETWORKS = """
import torch
from torch import nn

def classifier(in_channels, num_classes, image_size, hidden=3):
    pixels = in_channels * image_size[0] * image_size[1]
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, hidden), nn.Tanh(), nn.Linear(hidden, num_classes))

class Bright(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(100.0))

    def forward(self, image):
        return torch.cat([0 * image, self.scale * (image - 1)], 1)
"""


@pytest.fixture
def own_networks(reticent, monkeypatch):
    """A package of the user's in the working directory, forgotten after the test."""
    Path("ward").mkdir()
    Path("ward/networks.py").write_text(OWN_NETWORKS)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "ward"]:
        del sys.modules[name]


def test_a_network_of_the_user_s_own_is_trained_and_predicts(reticent, write_cohort, own_networks):
    manifest, options = write_cohort(), ["--steps", "4", "--model", "ward.networks:classifier"]
    trained = reticent("train", manifest, *NOISE, *options, "--model-argument", "hidden=5", "--out", "run")
    assert trained.code == 0
    weights = safetensors.torch.load_file("run/release/model.safetensors")
    assert {name: tuple(value.shape) for name, value in weights.items()} == {
        "1.weight": (5, 256), "1.bias": (5,), "3.weight": (2, 5), "3.bias": (2,),
    }  # fmt: skip
    network = sys.modules["ward.networks"].classifier(1, 2, (16, 16), 5)
    network.load_state_dict(weights)
    path = manifest.parent / "images" / "1-0.png"
    with Image.open(path) as image:
        pixels = np.asarray(image, np.float64)
    inputs = torch.tensor((pixels / 255 - 0.5) / 0.25, dtype=torch.float32)[None, None]
    (row,) = rows_of(reticent("predict", "run", path).printed)
    assert float(row["1"]) == pytest.approx(network(inputs).softmax(1)[0, 1].item(), abs=1e-5)
    shutil.rmtree("ward")
    del sys.modules["ward.networks"], sys.modules["ward"]
    assert refused(reticent("predict", "run", path), "ward.networks:classifier", "Python path")
    assert refused(reticent("train", manifest, *NOISE, *options), "ward.networks:classifier", "Python path")


def test_masks_lie_where_the_input_shows_what_was_segmented(reticent, write_volumes, own_networks):
    manifest = write_volumes()
    options = ["--steps", "1", "--learning-rate", "1e-9", "--model", "ward.networks:Bright", "--out", "run"]
    assert reticent("train", manifest, *NOISE, *options).code == 0
    file = manifest.parent / "images" / "p.7.nii.gz"
    assert reticent("predict", "run", file).code == 0
    truth = np.asarray(nibabel.load(manifest.parent / "masks" / "p.7.nii.gz").dataobj)
    np.testing.assert_array_equal(np.asarray(nibabel.load("masks/p.7_mask.nii.gz").dataobj), truth)


def test_data_shows_what_a_cohort_holds_and_what_is_wrong_with_it(reticent, write_cohort):
    manifest = write_cohort()
    images = manifest.parent / "images"
    shutil.copy(images / "1-0.png", images / "5-0.png")  # from a training patient to one of the test split
    (images / "3-0.png").write_bytes(b"no image")
    lines = manifest.read_text().splitlines()
    lines[3] = "1-1.png,patient 1,0,,test"
    manifest.write_text("\n".join(lines) + "\n")
    ended = reticent("data", manifest)
    assert ended.code == 0
    for words in (
        "clinic: binary, 2-D", "30 subjects, 60 records (1 to 3 per subject, median 2)", "16 x 16 (59)",
        "missing values: 1 sex: 1 records", "subjects in more than one split: 1 patient 1: test, train",
        "identical images in different splits: 1 1-0.png = 5-0.png", "unreadable: 1",
    ):  # fmt: skip
        assert words in ended.out
    assert "3-0.png" in ended.out
    shown = json.loads(reticent("data", manifest, "--json").printed)
    assert (shown["cohort"], shown["task"], shown["subjects"], shown["records"]) == ("clinic", "binary", 30, 60)
    assert shown["records_per_subject"] == [1, 2, 3]
    assert shown["shapes"] == {"16x16": 59}
    assert {name: split["records"] for name, split in shown["splits"].items()} == {"train": 47, "val": 6, "test": 7}
    assert sum(sum(split["labels"].values()) for split in shown["splits"].values()) == 59
    assert shown["missing"] == {"sex": 1}
    assert shown["overlapping"] == {"patient 1": ["test", "train"]}
    assert shown["duplicates"] == [["1-0.png", "5-0.png"]]
    assert [key for key, _ in shown["unreadable"]] == ["3-0.png"]


def test_data_shows_the_splits_that_training_draws(reticent, write_cohort, small):
    manifest = write_cohort(patients=120, header="file,subject,label,sex,ward")
    splits = json.loads(reticent("data", manifest, "--json").printed)["splits"]
    assert reticent("train", manifest, *NOISE, *small, "--out", "run").code == 0
    drawn = [line.split(",")[1] for line in Path("run/private/subjects.csv").read_text().splitlines()[1:]]
    assert {name: split["subjects"] for name, split in splits.items()} == {name: drawn.count(name) for name in drawn}


def test_data_shows_a_folder_without_subjects_and_splits(reticent, write_cohort):
    images = write_cohort().parent / "images"
    for number, path in enumerate(sorted(images.iterdir())):
        (images / "ab"[number % 2]).mkdir(exist_ok=True)
        path.rename(images / "ab"[number % 2] / path.name)
    ended = reticent("data", images)
    assert ended.code == 0
    assert "no subjects: training needs --unit record" in ended.out
    assert "a: 30, b: 30" in ended.out
    assert refused(reticent("data", images, "--unit", "ward"), "--unit ward", "subject or record")
    assert refused(reticent("data", "gone"), "gone")


def test_ledger_shows_and_verifies_what_was_spent(reticent, trained, small, site_ledger):
    assert reticent("train", trained, *NOISE, *small, "--out", "second").code == 0
    ended = reticent("ledger", "run", "second")
    assert ended.code == 0
    assert "4 entries, hash chain intact, the 4 anchors of the runs found" in ended.out
    assert ended.out.count("reserve") == ended.out.count("settle") == 2
    assert "24 subjects" in ended.out
    shown = json.loads(reticent("ledger", "--json", "--delta", "1e-3").printed)
    (group,) = shown["spending"]
    runs = [json.loads(Path(name, "private/run.json").read_text())["run"] for name in ("run", "second")]
    assert (group["subjects"], group["runs"]) == (24, runs)
    with Ledger.open(site_ledger) as site:
        exact = site.spent("patient 1").profile().epsilon(1e-3).upper
    assert float(group["epsilon"]) == pytest.approx(exact, rel=1e-3)
    assert float(group["epsilon"]) >= exact
    assert not any("patient" in json.dumps(part) for part in (shown["entries"], shown["spending"]))


def test_ledger_notices_tampering_and_entries_that_a_run_misses(reticent, trained, site_ledger):
    with sqlite3.connect(site_ledger) as connection:
        connection.execute("DELETE FROM entries WHERE number = 2")
    assert reticent("ledger").code == 0  # a shorter chain is valid by itself
    assert refused(reticent("ledger", "run"), "rolled back or truncated", "backup")
    with sqlite3.connect(site_ledger) as connection:
        connection.execute("UPDATE entries SET scope = '1 subjects' WHERE number = 1")
    assert refused(reticent("ledger"), "ledger entry 1 was tampered with", "backup")
    assert refused(reticent("ledger", "--erase", "patient 1"), "ledger entry 1 was tampered with")


def test_ledger_shows_one_patient(reticent, trained):
    run = json.loads(Path("run/private/run.json").read_text())["run"]
    ended = reticent("ledger", "--subject", "patient 1")
    assert ended.code == 0
    assert run in ended.out
    assert "epsilon" in ended.out
    assert refused(reticent("ledger", "--subject", "patient 0"), "'patient 0' is in no row")  # held out


def test_ledger_cuts_nothing_in_a_narrow_terminal(reticent, trained, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    printed = reticent("ledger").printed
    assert "…" not in printed
    assert all(len(line) <= 80 for line in printed.splitlines() if "hash chain" not in line)


def test_ledger_erases_a_patient_and_stays_valid(reticent, trained, site_ledger):
    ended = reticent("ledger", "--erase", "patient 1")
    assert ended.code == 0
    assert "Erased from 1 rows" in ended.out
    assert refused(reticent("ledger", "--erase", "patient 1"), "'patient 1' is in no row")
    after = reticent("ledger", "run")
    assert after.code == 0
    assert "3 entries, hash chain intact, the 2 anchors of the runs found" in after.out
    assert "23 subjects" in after.out
    with Ledger.open(site_ledger) as site:
        assert site.spent("patient 1") is None
        assert site.spent("patient 2") is not None


def test_ledger_needs_one_and_makes_none(reticent, site_ledger):
    assert refused(reticent("ledger"), str(site_ledger), "no ledger yet", "--ledger")
    assert not site_ledger.exists()


def test_report_is_written_again_from_the_records(reticent, trained):
    first = Path("run/report.html").read_text()
    Path("run/report.html").write_text("spoilt")
    ended = reticent("report", "run")
    assert ended.code == 0
    assert ended.out == "run/report.html"
    assert Path("run/report.html").read_text() == first
    assert refused(reticent("report", "gone"), "gone: not a run folder")


def test_cite_prints_bibtex_of_the_tool_and_of_the_methods_used(reticent, trained, small):
    ended = reticent("cite", "run")
    assert ended.code == 0
    entries = re.findall(r"^@(\w+)\{(\w+),\n((?:  .*\n)+)\}$", ended.printed, re.MULTILINE)
    assert len(entries) == len(re.findall("^@", ended.printed, re.MULTILINE))
    assert {"reticent", "abadi2016deep", "dong2022gaussian", "wu2018group"} <= {key for _, key, _ in entries}
    for _, key, fields in entries:
        assert re.search(r"^  title +=", fields, re.MULTILINE), key
        assert re.search(r"^  author +=", fields, re.MULTILINE), key
        assert fields.count("{") == fields.count("}")
    assert reticent("train", trained, "--non-private", *small, "--out", "plain").code == 0
    assert "abadi2016deep" not in reticent("cite", "plain").printed
