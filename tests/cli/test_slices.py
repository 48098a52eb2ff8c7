"""`--model slices` as its user sees it: private training on volumes, and what each slice gave to a prediction."""

import csv
import json
import stat
from pathlib import Path

import nibabel
import numpy as np
import pytest

from reticent.records import RunFolder

PRIVACY = ["--noise-multiplier", "1", "--steps", "3", "--sampling-rate", "0.4", "--delta", "0.01"]
SLICES = ["--model", "slices", "--model-argument", "features=16", "--model-argument", "encoder_arguments={width=8}"]


@pytest.fixture
def volumes(tmp_path):
    """A manifest of 16 small volumes in two classes."""
    rng, rows = np.random.default_rng(0), ["file,patient,label,split"]
    for patient in range(16):
        voxels = rng.normal(0, 1, (12, 10, 8)).astype(np.float32)
        voxels[4] += 3 * (patient % 2)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / f"v{patient}.nii.gz")
        rows.append(f"v{patient}.nii.gz,{patient},{('well', 'ill')[patient % 2]},{'test' if patient > 11 else 'train'}")
    (tmp_path / "volumes.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "volumes.csv"


def test_slices_are_trained_privately_and_explain_their_predictions(reticent, volumes):
    ended = reticent("train", volumes, *SLICES, *PRIVACY, "--image-size", "12x10x8", "--out", "run")
    assert ended.code == 0, ended.err
    files = [volumes.parent / f"v{k}.nii.gz" for k in (12, 13)]
    ended = reticent("predict", "run", *files, "--explain", "why", "--out", "p.json")
    assert ended.code == 0, ended.err
    rows = json.loads(Path("p.json").read_text())
    assert sorted(path.name for path in Path("why").iterdir()) == [
        "0001_v12.csv", "0001_v12.png", "0002_v13.csv", "0002_v13.png",
    ]  # fmt: skip
    for path in (Path("why/0001_v12.png"), Path("why/0001_v12.csv"), Path("p.json")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with Path("why/0001_v12.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["axis"] for row in table] == ["0"] * 12 + ["1"] * 10 + ["2"] * 8 + ["constant"]
    assert sum(float(row["attention"]) for row in table) == pytest.approx(1, abs=1e-4)
    shares = {name: sum(float(row[f"logit of {name}"]) for row in table) for name in ("well", "ill")}
    odds = np.exp(shares["ill"] - shares["well"])
    assert rows[0]["ill"] == pytest.approx(odds / (1 + odds), abs=1e-4)
    assert set(rows[0]) == {"file", "well", "ill"}
    assert "Interpretable {2D}" in reticent("cite", "run").out


def test_networks_without_slices_and_folders_that_are_there_are_refused(reticent, volumes):
    ended = reticent("train", volumes, *PRIVACY, "--image-size", "8x8x8", "--out", "run")
    assert ended.code == 0, ended.err
    volume = volumes.parent / "v12.nii.gz"
    ended = reticent("predict", "run", volume, "--explain", "why")
    assert ended.code == 2
    assert "train with --model slices" in ended.err
    assert not list(Path().glob("*why*"))
    Path("why").mkdir()
    ended = reticent("predict", "run", volume, "--explain", "why")
    assert ended.code == 2
    assert "exists already" in ended.err


def test_several_networks_do_not_explain_their_slices_as_one(reticent, volumes):
    langevin = ["--optimiser", "langevin", "--temperature", "0.2", "--posterior-samples", "2"]
    ended = reticent("train", volumes, *SLICES, *PRIVACY, *langevin, "--image-size", "8x8x8", "--out", "run")
    assert ended.code == 0, ended.err
    ended = reticent("predict", "run", volumes.parent / "v12.nii.gz", "--explain", "why")
    assert ended.code == 2
    assert "several networks" in ended.err


def test_the_report_shows_held_out_patients_and_how_far_explanations_agree_with_drawn_masks(reticent, volumes):
    organ = np.zeros((12, 10, 8), np.uint8)
    organ[4, 2:8, 2:7] = 1
    rows = volumes.read_text().splitlines()
    for patient in range(16):
        nibabel.save(nibabel.Nifti1Image(organ, np.eye(4)), volumes.parent / f"m{patient}.nii.gz")
    rows = [f"{row},{'mask' if k == 0 else f'm{k - 1}.nii.gz'}" for k, row in enumerate(rows)]
    volumes.write_text("\n".join(rows) + "\n")
    ended = reticent("train", volumes, "--label", "label", *SLICES, *PRIVACY, "--image-size", "12x10x8", "--out", "run")
    assert ended.code == 0, ended.err
    kept = RunFolder.open(Path("run")).explanations()
    assert [found.truth for found in kept] == ["ill", "well"]
    assert all(found.agreement["mask"] == pytest.approx(organ.mean()) for found in kept)
    report = Path("run/report.html").read_text()
    assert "What the slices gave to predictions" in report
    assert "lies inside the drawn mask, which fills 3%" in report
    assert report.count("data:image/png") == 2
