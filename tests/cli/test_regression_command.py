"""Numbers to predict, from images and from surfaces, as their user sees them."""

import csv
import stat
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from reticent.records import RunFolder

PRIVACY = ["--noise-multiplier", "1", "--delta", "0.01"]
STEPS = ["--steps", "3", "--sampling-rate", "0.4"]


@pytest.fixture
def bodies(tmp_path):
    """A manifest of 30 ellipsoids with their volumes in litres."""
    random, rows = np.random.default_rng(0), ["file,patient,volume,sex,split"]
    for i in range(30):
        axes = random.uniform([0.1, 0.08, 0.6], [0.2, 0.14, 0.9])
        body = trimesh.creation.icosphere(subdivisions=2).apply_scale(axes)
        body.export(tmp_path / f"body{i}.ply")
        rows.append(f"body{i}.ply,{i},{body.volume * 1000:.3f},{'FM'[i % 2]},{'test' if i < 12 else 'train'}")
    (tmp_path / "bodies.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "bodies.csv"


@pytest.fixture
def pictures(tmp_path):
    """A manifest of 30 small pictures with their brightness."""
    random, rows = np.random.default_rng(0), ["file,patient,brightness,split"]
    for i in range(30):
        value = random.uniform(40, 210)
        pixels = np.clip(value + random.normal(0, 9, (16, 16)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{i},{value:.3f},{'test' if i < 12 else 'train'}")
    (tmp_path / "pictures.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "pictures.csv"


def test_a_network_on_surfaces_is_trained_privately_and_tells_what_each_vertex_does(reticent, bodies):
    ended = reticent(
        "train", bodies, "--target", "volume=0,150", *PRIVACY, *STEPS, "--faces", "200", "--length", "0.4",
        "--loss", "shrinkage", "--shrinkage", "1,5", "--model-argument", "conv_channels=[8,8]", "--out", "run",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "Targets (their names become public): volume" in ended.out
    assert "volume r2" in ended.out
    run = RunFolder(Path("run"))
    assert run.state().ranges == ((0.0, 150.0),)
    report = run.report.read_text()
    for told in ("Agreement on volume", "Bland-Altman plot of volume", "volume: Mean absolute error", "By target"):
        assert told in report
    assert '"ranges": [' in Path("run/release/study.json").read_text()
    gaps = " ".join(run.statement().not_covered)
    assert "targets with their declared ranges" in gaps
    assert "image" not in gaps.replace("the images' channels", "")

    ended = reticent("predict", "run", bodies, "--out", "volumes.csv", "--explain", "why")
    assert ended.code == 0, ended.err
    rows = list(csv.DictReader(Path("volumes.csv").read_text().splitlines()))
    assert (len(rows), set(rows[0])) == (30, {"file", "volume"})
    shown = sorted(Path("why").iterdir())
    assert (len(shown), shown[0].name, stat.S_IMODE(shown[0].stat().st_mode)) == (30, "0001_body0.ply", 0o600)
    values = trimesh.load_mesh(shown[0], process=False).metadata["_ply_raw"]["vertex"]["data"]["volume"]
    assert np.isfinite(values).all()
    assert np.ptp(values) > 0
    assert {"mueller2023body", "hamilton2017inductive", "bland1986statistical"} <= cited(reticent)


def cited(reticent):
    return {line.split("{")[1].rstrip(",") for line in reticent("cite", "run").printed.splitlines() if line[:1] == "@"}


def test_a_ridge_on_girths_is_one_release_beside_its_twin(reticent, bodies):
    ended = reticent(
        "train", bodies, "--target", "volume=0,150", *PRIVACY, "--model", "ridge", "--profile", "z:0.2-0.8/5:perimeter",
        "--reference", "ellipsoid:0.15x0.11x0.75", "--twin", "--out", "run",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    run = RunFolder(Path("run"))
    (twin,) = run.metrics().twin
    assert twin.metrics["volume r2"].value > 0.8
    assert run.statement().steps == 1
    assert any("reference surface" in gap for gap in run.statement().not_covered)
    assert "wang2018revisiting" in cited(reticent)
    ended = reticent("predict", "run", bodies.parent / "body3.ply")
    assert ended.code == 0, ended.err
    assert reticent("predict", "run", bodies, "--explain", "why").code == 2


def test_numbers_are_predicted_from_images_too(reticent, pictures):
    ended = reticent(
        "train", pictures, "--target", "brightness=0,255", *PRIVACY, *STEPS, "--model-argument", "width=8",
        "--out", "run",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    ended = reticent("predict", "run", pictures.parent / "3.png")
    assert next(iter(csv.DictReader(ended.printed.splitlines()))).keys() == {"file", "brightness"}
    ended = reticent("audit", "run", "--attack", "loss")
    assert ended.code == 0, ended.err
    assert reticent("data", pictures, "--target", "brightness=100,255").out.count("brightness") > 3
    assert reticent("train", pictures, "--target", "brightness=0,255", *PRIVACY, "--dry-run").code == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", "volume"], "write it as NAME=LOW,HIGH, with the range that is possible"),
        (["--target", "volume=3"], "write the range that is possible as volume=LOW,HIGH"),
        (["--target", "volume=9,3"], "the first number must be the smaller one"),
        (["--target", "weight=0,1"], "no column 'weight'"),
        (["--target", "volume=0,150", "--label", "sex"], "say one of them"),
        (["--target", "volume=0,150", "--image-size", "32"], "--image-size is about images"),
        (["--target", "volume=0,150", "--model", "ridge"], "needs the numbers of a --profile"),
        (["--target", "volume=0,150", "--profile", "body"], "for --model ridge"),
        (["--target", "volume=0,150", "--profile", "waist", "--model", "ridge"], "say body, or AXIS:FROM-TO/CUTS"),
        (["--target", "volume=0,150", "--profile", "body", "--model", "ridge", "--faces", "300"], "graphs of surfaces"),
        (["--target", "volume=0,150", "--length", "400"], "another unit (mm, m)?"),
        (["--target", "volume=0,150", "--reference", "template.ply"], "template.ply"),
        (["--target", "volume=0,150", "--model", "resnet9"], "reads images, and these are surfaces"),
        (["--target", "volume=0,150", "--optimiser", "langevin"], "averages probabilities"),
        (["--target", "volume=0,150", "--shrinkage", "1,1"], "--shrinkage is for --loss shrinkage"),
        (["--label", "sex", "--loss", "shrinkage"], "is for a regression"),
        (["--label", "sex", "--model", "ridge", "--profile", "body"], "--model ridge predicts numbers"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line_and_leaves_nothing(reticent, bodies, options, said):
    ended = reticent("train", bodies, *PRIVACY, "--out", "run", *options)
    assert ended.code == 2
    assert said in " ".join(ended.err.split())
    assert not Path("run").exists()


def test_options_of_surfaces_are_refused_for_images(reticent, pictures):
    ended = reticent("train", pictures, "--target", "brightness=0,255", *PRIVACY, "--faces", "300", "--out", "run")
    assert (ended.code, "--faces is about surfaces" in ended.err) == (2, True)


def test_a_broken_mesh_stops_the_training_with_its_name(reticent, bodies):
    path = bodies.parent / "body5.ply"
    mesh = trimesh.load_mesh(path)
    mesh.faces = mesh.faces[1:]
    mesh.export(path)
    ended = reticent("train", bodies, "--target", "volume=0,150", *PRIVACY, *STEPS, "--out", "run")
    assert ended.code == 2
    assert "body5.ply: the surface is not closed: 3 of its edges" in " ".join(ended.err.split())
    assert not Path("run").exists()
