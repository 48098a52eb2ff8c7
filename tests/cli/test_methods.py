"""Methods that change what a run releases or starts from, as the user of the commands sees them."""

import csv
import io
import json
import math
from pathlib import Path

import pytest
from safetensors.torch import load_file

from reticent.records import RunFolder
from reticent.training import PrivateRun

NOISE = ["--noise-multiplier", "1.5"]
LANGEVIN = ["--optimiser", "langevin", "--temperature", "0.2", "--posterior-samples", "2"]


def rows_of(ended):
    return list(csv.DictReader(io.StringIO(ended.printed)))


def test_langevin_releases_samples_and_predicts_with_their_uncertainty(reticent, write_cohort, small):
    manifest = write_cohort()
    ended = reticent("train", manifest, *NOISE, *small, *LANGEVIN, "--out", "run")
    assert ended.code == 0, ended.err
    assert "Langevin sampling at temperature 0.2" in ended.out
    folder = RunFolder(Path("run"))
    assert folder.state().effective_temperature == pytest.approx(0.2)
    subjects, study = folder.training_subjects(), folder.study()
    batch = 0.3 * subjects
    expected = 0.2 * 2 * batch**2 / (subjects * 1.5**2)  # eta* = 2 L^2 / (N sigma^2 C^2)
    assert study.training.learning_rate == pytest.approx(expected)
    assert all(len(value) == 2 for value in load_file(folder.weights).values())
    for row in rows_of(reticent("predict", "run", manifest)):
        p, entropy = float(row["1"]), float(row["entropy"])
        assert entropy == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p), abs=1e-4)
        assert 0 <= float(row["mutual_information"]) <= entropy + 1e-6
    assert "Langevin" in reticent("cite", "run").out


def test_langevin_keeps_its_samples_over_an_interruption(reticent, write_cohort, small, monkeypatch):
    def interrupted(run, steps=PrivateRun.steps):
        for step in steps(run):
            if step.index == 3:
                raise KeyboardInterrupt
            yield step

    with monkeypatch.context() as patch:
        patch.setattr(PrivateRun, "steps", interrupted)
        assert reticent("train", write_cohort(), *NOISE, *small, *LANGEVIN, "--out", "run").code == 130
    assert reticent("train", "--resume", "run").code == 0
    samples = load_file(RunFolder(Path("run")).weights)
    assert any(value[0].any() for value in samples.values())  # of the third step, before the interruption
    assert reticent("report", "run").code == 0


def test_langevin_leaves_out_the_sample_of_a_step_that_was_lost(reticent, write_cohort, small, monkeypatch):
    def killed(run, steps=PrivateRun.steps):
        for step in steps(run):
            if step.index == 2:
                raise SystemError
            yield step

    with monkeypatch.context() as patch:
        patch.setattr(PrivateRun, "steps", killed)
        with pytest.raises(SystemError):
            reticent("train", write_cohort(), *NOISE, *small, *LANGEVIN, "--out", "run")
    ended = reticent("train", "--resume", "run")
    assert ended.code == 0, ended.err
    samples = load_file(RunFolder(Path("run")).weights)
    assert {len(value) for value in samples.values()} == {1}
    assert all(value.any() for name, value in samples.items() if name.endswith("weight"))


def test_a_dry_run_shows_the_temperature_and_the_chosen_schedule(reticent, write_cohort):
    options = ["--mu", "1", "--epochs", "10", *LANGEVIN, "--model-argument", "width=8", "--dry-run"]
    ended = reticent("train", write_cohort(), *options)
    assert ended.code == 0, ended.err
    assert "temperature 0.2 (1: the posterior) at learning rate" in ended.out
    steps = next(line for line in ended.printed.splitlines() if "│ steps" in line).split("│")[2].strip()
    rate = next(line for line in ended.printed.splitlines() if "│ sampling rate" in line).split("│")[2].split(",")[0]
    assert int(steps) == round(10 / float(rate))


@pytest.mark.parametrize(
    ("what", "trained"),
    [
        ("last", lambda name: name.startswith("head")),
        ("biases", lambda name: name.startswith("head") or name.endswith("bias")),
        ("lora", lambda name: name.startswith("head") or "lora" in name),
    ],
)
def test_fine_tuning_moves_nothing_else(reticent, write_cohort, small, what, trained):
    manifest, network = write_cohort(), ["--model", "resnet9", "--image-size", "16"]
    assert reticent("train", manifest, *NOISE, *small, *network, "--out", "public").code == 0
    options = ["--init-from", "public/release/model.safetensors", "--init-origin", "another hospital"]
    options += ["--fine-tune", what, "--twin"]
    ended = reticent("train", manifest, *NOISE, *small, *network, *options, "--out", "run")
    assert ended.code == 0, ended.err
    before, after = (load_file(f"{run}/release/model.safetensors") for run in ("public", "run"))
    moved = {name for name, value in after.items() if name not in before or not value.equal(before[name])}
    assert moved == {name for name in after if trained(name)}
    ended = reticent("predict", "run", manifest)
    assert ended.code == 0, ended.err
    assert json.loads(Path("run/release/privacy.json").read_text())["public_weights"]["origin"] == "another hospital"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--optimiser", "langevin", "--schedule", "cosine"], "leave out --schedule and --ema-decay"),
        (["--temperature", "1"], "--temperature is for --optimiser langevin"),
        ([*LANGEVIN, "--learning-rate", "1"], "--temperature sets the learning rate"),
        (["--optimiser", "langevin", "--noise", "banded", "--bands", "2"], "--optimiser langevin samples"),
        ([*LANGEVIN, "--twin"], "leave out --non-private, --twin"),
        (["--fine-tune", "last"], "name them with --init-from"),
        (["--init-origin", "CC0"], "--init-origin is the source of --init-from"),
        (["--lora-rank", "2"], "--lora-rank is for --fine-tune lora"),
        (["--views", "2", "--augment", "none"], "leave --views out"),
        (["--clipping", "soft"], "training.clipping"),
        (["--epochs", "3"], "--epochs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_do_not_go_together_are_refused(reticent, write_cohort, site_ledger, options, message):
    ended = reticent("train", write_cohort(), *NOISE, *options)
    assert ended.code == 2
    assert message in ended.err
    assert not site_ledger.exists()


@pytest.mark.parametrize("option", [["--clipping", "automatic"], ["--bias-aware", "0.1"]], ids=" ".join)
def test_without_privacy_nothing_is_clipped(reticent, write_cohort, option):
    ended = reticent("train", write_cohort(), "--non-private", *option)
    assert ended.code == 2
    assert f"{option[0]} is about clipping" in ended.err


def test_inspect_names_weaknesses_and_measures_public_gradients(reticent, write_cohort):
    ended = reticent("inspect", "monai:DenseNet121", "--image-size", "32x32")
    assert ended.code == 0, ended.err
    assert "training is refused" in ended.out
    assert "to_private" in ended.out
    ended = reticent("inspect", "resnet9", "--image-size", "16x16", "--model-argument", "groups=2")
    assert "Nothing is found" in ended.out
    ended = reticent("inspect", "default", "--on", write_cohort(), "--model-argument", "width=8")
    assert ended.code == 0, ended.err
    assert "public images with first weights" in ended.out
    assert "signal / noise" in ended.printed
    for options, message in (
        (["resnet9", "--image-size", "16"], "two or three numbers"),
        (["resnet9", "--image-size", "a"], "write it as 64x64"),
        (["nothing"], "model 'nothing'"),
        (["default", "--max-norm", "2"], "--max-norm is for --on"),
        (["default", "--on", "public", "--image-size", "64x64"], "--image-size is a cohort's own if --on"),
    ):
        ended = reticent("inspect", *options)
        assert ended.code == 2
        assert message in ended.err
