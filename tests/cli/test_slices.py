"""`--model slices` as its user sees it: private training on volumes, and what each slice gave to a prediction."""

import csv
import json
import stat
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from reticent.data import Preprocessing, open_cohort
from reticent.models import SliceClassifier
from reticent.records import RunFolder, read_findings
from reticent.training import released_model

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


@pytest.fixture
def of_different_depth(tmp_path):
    """A manifest of 20 volumes of 4 to 10 slices, with masks of an organ in the second one."""
    rng, rows = np.random.default_rng(0), ["file,mask,patient,label,split"]
    for patient in range(20):
        voxels = rng.normal(0, 1, (4 + patient % 7, 10, 8)).astype(np.float32)
        organ = np.zeros(voxels.shape, np.uint8)
        organ[1, 2:8, 2:7] = 1
        for name, values in (("v", voxels), ("m", organ)):
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / f"{name}{patient}.nii.gz")
        split = "test" if patient > 13 else "train"
        rows.append(f"v{patient}.nii.gz,m{patient}.nii.gz,{patient},{('well', 'ill')[patient % 2]},{split}")
    (tmp_path / "depths.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "depths.csv"


def on_another_canvas(run, size, *, padding=True):
    """The same weights with another --image-size; without `padding` as a version before there was one left a run."""
    study, state = run / "study.toml", run / "private" / "run.json"
    settings, told = study.read_text().splitlines(), json.loads(state.read_text())
    at = next(k for k, line in enumerate(settings) if line.startswith("image_size"))
    end = next(k for k in range(at, len(settings)) if settings[k].endswith("]"))
    settings[at : end + 1] = [f"image_size = {list(size)}"]
    study.write_text("\n".join(settings) + "\n")
    told["image_size"], told["inputs"] = list(size), {"image": 1} | ({"padding": sum(size)} if padding else {})
    state.write_text(json.dumps(told))


def test_padding_changes_no_prediction_shows_in_no_explanation_and_is_audited(
    reticent, of_different_depth, monkeypatch
):
    """Acceptance check 6 of the paper's dossier, 1e-6, through the whole product: a larger canvas changes nothing."""
    ended = reticent(
        "train", of_different_depth, "--label", "label", *SLICES, "--model-argument", "axes=[0]", *PRIVACY,
        "--normalise", "standardise", "--spacing", "1", "--image-size", "10x10x8", "--out", "run",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    run, slices_of = Path("run"), {f"v{k}": 4 + k % 7 for k in (14, 16, 19)}
    files = [of_different_depth.parent / f"{name}.nii.gz" for name in slices_of]

    kept = RunFolder.open(run).explanations()  # of patients 14 (well) and 15 (ill)
    assert [len(found.weights) for found in kept] == [5, 4]
    assert [found.agreement["mask"] for found in kept] == pytest.approx([30 / (80 * n) for n in (4, 5)][::-1])

    passes, pooled = [], SliceClassifier._pooled
    with monkeypatch.context() as patch:
        patch.setattr(SliceClassifier, "_pooled", lambda *args: passes.append(1) or pooled(*args))
        assert reticent("predict", "run", *files, "--explain", "why", "--out", "a.json").code == 0
    assert len(passes) == len(files)
    for path, count in zip(sorted(Path("why").glob("*.csv")), slices_of.values(), strict=True):
        rows = list(csv.DictReader(path.open()))
        assert [(row["slice"], row["of"]) for row in rows[:-1]] == [(str(k), str(count)) for k in range(count)]
        assert sum(float(row["attention"]) for row in rows) == pytest.approx(1, abs=1e-4)

    on_another_canvas(run, (25, 10, 8))
    assert reticent("predict", "run", *files, "--out", "b.json").code == 0
    first, second = (json.loads(Path(name).read_text()) for name in ("a.json", "b.json"))
    for own, other in zip(first, second, strict=True):
        assert own["ill"] == pytest.approx(other["ill"], abs=1e-6)

    on_another_canvas(run, (10, 10, 8))
    ended = reticent("audit", "run", "--attack", "gradient-inversion")
    assert (ended.code, "which slices are padding" in ended.err) == (2, True)
    attacks = ["planted-images", "loss", "identification"]
    chosen = [word for attack in attacks for word in ("--attack", attack)]
    ended = reticent("audit", "run", *chosen, "--set", "planted-images.canaries=20", "--seed", "0")
    assert ended.code == 0, ended.err
    assert {finding.attack for finding in read_findings(RunFolder(run))} == set(attacks)


def test_a_run_of_before_there_was_a_padding_input_predicts_as_it_did(reticent, of_different_depth):
    options = ["--spacing", "1", "--image-size", "10x10x8", "--normalise", "standardise"]
    ended = reticent("train", of_different_depth, "--label", "label", *SLICES, *PRIVACY, *options, "--out", "run")
    assert ended.code == 0, ended.err
    on_another_canvas(Path("run"), (10, 10, 8), padding=False)
    ended = reticent("predict", "run", of_different_depth.parent / "v14.nii.gz", "--out", "p.json")
    assert ended.code == 0, ended.err
    record = open_cohort(str(of_different_depth), labels=["label"]).load(14)
    volume = Preprocessing((10, 10, 8), "standardise", spacing=(1.0,)).apply(record).inputs["image"]
    with torch.no_grad():
        logits = released_model(RunFolder(Path("run"))).eval()(torch.from_numpy(volume)[None])
    (row,) = json.loads(Path("p.json").read_text())
    assert row["ill"] == pytest.approx(torch.softmax(logits, 1)[0, 0].item(), abs=1e-6)
