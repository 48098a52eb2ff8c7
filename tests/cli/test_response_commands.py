"""Markers, references, localisation, transfer and cross-validation as their user sees them."""

import csv
import json
import statistics
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from reticent.accounting import Composition, Gaussian, mechanism_from_dict
from reticent.governance import Ledger
from reticent.records import RunFolder, privacy_numbers, read_findings

STUDY = """
[cohort]
uri = "{uri}"
labels = ["label"]
acquisition = ["sex"]
[privacy]
{privacy}
steps = 3
sampling_rate = 0.3
seed = 1
[model]
arguments = {{ encoder_arguments = {{ width = 8 }} }}
[sweep.variants.image]
model = {{ arguments = {{ width = 8 }} }}
[sweep.variants.markers]
cohort = {{ markers = {{ crp = "50,20" }} }}
model = {{ name = "markers", arguments = {{}} }}
grid = {{ "training.learning_rate" = [0.01, 0.03] }}
"""


@pytest.fixture
def write_clinic(write_cohort):
    """The usual cohort with a marker that tells the label, missing in every fifth image."""

    def write(**options):
        manifest = write_cohort(**options)
        with manifest.open() as file:
            rows = list(csv.DictReader(file))
        for k, row in enumerate(rows):
            row["crp"] = "" if k % 5 == 0 else str(40 + 30 * int(row["label"]) + k % 7)
        with manifest.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return manifest

    return write


@pytest.fixture
def write_masks(tmp_path):
    """Flat images with a bright square, its masks, and a label (left or right)."""

    def write(patients=24, empty=()):
        folder = tmp_path / "lesions"
        for name in ("images", "masks"):
            (folder / name).mkdir(parents=True)
        rows = ["file,subject,mask,label,split"]
        for k in range(patients):
            rng = np.random.default_rng(k)
            pixels, mask = rng.integers(0, 60, (32, 32), np.uint8), np.zeros((32, 32), np.uint8)
            x, y = int(rng.integers(2, 6)) + 16 * (k % 2), int(rng.integers(2, 22))
            mask[y : y + 8, x : x + 8] = 255
            pixels[mask > 0] = 40 if k in empty else 220
            Image.fromarray(pixels).save(folder / "images" / f"{k}.png")
            Image.fromarray(mask).save(folder / "masks" / f"{k}.png")
            rows.append(f"{k}.png,p{k},{k}.png,{k % 2},{'test' if k % 4 == 0 else 'train'}")
        (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
        return folder / "manifest.csv"

    return write


def test_references_stand_beside_the_network_and_predictions_read_the_columns(reticent, write_clinic, small):
    manifest = write_clinic()
    options = ["--marker", "crp", "--acquisition", "sex", "--steps", "4", "--out", "run"]
    ended = reticent("train", manifest, "--label", "label", "--non-private", *options)
    assert ended.code == 0, ended.err
    assert "AUROC without an image" in ended.out
    references = RunFolder(Path("run")).metrics().references
    assert set(references) == {"markers alone", "missing values alone", "acquisition alone"}
    found = {name: splits[-1].metrics["auroc"].value for name, splits in references.items()}
    assert found["markers alone"] > 0.7
    assert found["missing values alone"] < 0.8
    report = Path("run/report.html").read_text()
    assert "What is known without an image" in report
    assert "missing values alone" in report
    predicted = reticent("predict", "run", manifest)
    assert predicted.code == 0, predicted.err
    assert len(predicted.printed.splitlines()) == 1 + len(manifest.read_text().splitlines()[1:])
    assert "ziller2022exploiting" in reticent("cite", "run").printed
    alone = reticent("predict", "run", manifest.parent / "images" / "1-0.png")
    assert (alone.code, "name a manifest with the columns crp" in alone.err) == (2, True)


def test_data_reads_and_shows_declared_markers(reticent, write_clinic):
    manifest = write_clinic()
    told = ["data", manifest, "--label", "label", "--marker", "crp=log,0..500", "--marker", "sex=f|m"]
    ended = reticent(*told)
    assert ended.code == 0, ended.err
    assert "│ marker │ missing │ least │ median │ largest │ categories" in ended.out.replace("┃", "│")
    shown = json.loads(reticent(*told, "--json").printed)["markers"]
    with manifest.open() as file:
        rows = list(csv.DictReader(file))
    given = [float(row["crp"]) for row in rows if row["crp"]]
    assert shown["crp"]["missing"] == len(rows) - len(given)
    assert shown["crp"]["spread"] == [min(given), statistics.median(given), max(given)]
    assert shown["sex"]["counts"] == {sex: sum(row["sex"] == sex for row in rows) for sex in "fm"}
    assert f"│ crp │ {shown['crp']['missing']} │ {min(given):g} │" in ended.out
    (manifest.parent / "bad.csv").write_text(manifest.read_text().replace(f",{given[0]:g}\n", ",high\n", 1))
    bad = reticent("data", manifest.parent / "bad.csv", "--label", "label", "--marker", "crp=log")
    assert (bad.code, "'high' in column crp is not a number" in bad.err) == (2, True)
    assert "--marker crp=1: write CENTRE,SCALE" in reticent("data", manifest, "--marker", "crp=1").err


def test_a_private_run_scales_by_declared_constants_and_says_why_no_references_were_fitted(
    reticent, write_clinic, small
):
    manifest = write_clinic()
    private = ["train", manifest, "--label", "label", "--noise-multiplier", "1", "--steps", "3"]
    refused = reticent(*private, "--marker", "crp", "--out", "run")
    assert refused.code == 2
    assert "--marker crp would be scaled by statistics of private patients; declare public constants" in refused.err
    assert not Path("run").exists()
    ended = reticent(*private, "--marker", "crp=50,20", "--out", "run")
    assert ended.code == 0, ended.err
    assert "were not fitted" in ended.out
    state = RunFolder(Path("run")).state()
    assert (state.inputs, state.marker_scales) == ({"image": 1, "markers": 1, "missing": 1}, ((50.0, 20.0),))
    assert any("limits of markers" in gap for gap in RunFolder(Path("run")).statement().not_covered)
    public = json.loads(Path("run/release/study.json").read_text())
    assert public["network"]["marker_scales"] == [[50.0, 20.0]]
    only = reticent(*private, "--marker", "crp=50,20", "--model", "markers", "--out", "alone")
    assert only.code == 0, only.err
    audited = reticent("audit", "run", "--set", "step.canaries=20", "--set", "one-run.canaries=50", "--seed", "1")
    assert audited.code == 0, audited.err
    assert {finding.attack for finding in read_findings(RunFolder(Path("run")))} == {"step", "one-run", "loss"}


def test_public_records_fit_the_references_of_a_private_run(reticent, write_clinic, small):
    manifest = write_clinic(patients=40)
    lines = manifest.read_text().splitlines()
    public = [line.replace(",train", ",public") if k % 3 == 0 else line for k, line in enumerate(lines)]
    kept = {line.split(",")[1] for line in public if ",public" in line}
    public = [line.replace(",train", ",public") if line.split(",")[1] in kept else line for line in public]
    manifest.write_text("\n".join(public) + "\n")
    options = ["--label", "label", "--noise-multiplier", "1", "--steps", "2", "--marker", "crp=50,20", "--out", "run"]
    ended = reticent("train", manifest, *options)
    assert ended.code == 0, ended.err
    assert set(RunFolder(Path("run")).metrics().references) == {"markers alone", "missing values alone"}


def test_samples_of_the_weights_predict_with_markers_too(reticent, write_clinic):
    manifest = write_clinic(patients=12)
    options = ["--label", "label", "--noise-multiplier", "1", "--steps", "4", "--marker", "crp=50,20", "--out", "run"]
    ended = reticent("train", manifest, *options, "--model", "markers", "--optimiser", "langevin")
    assert ended.code == 0, ended.err
    header, first, *_ = reticent("predict", "run", manifest).printed.splitlines()
    assert header == "file,0,1,entropy,mutual_information"
    assert 0 <= float(first.split(",")[3]) <= np.log(2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--marker", "crq=0,1"], "no column 'crq' (--marker)"),
        (["--marker", "subject=0,1"], "row 2: 'patient 0' in column subject is not a number"),
        (["--marker", "crp=50,20", "--model", "resnet9"], "takes images alone: say --model fusion"),
        (["--model", "markers"], "the cohort has no 'markers' beside its images"),
        (["--acquisition", "scanner"], "--acquisition scanner: no such attribute; there are"),
        (["--marker", "crp=50,20", "--scale-norm"], "--scale-norm follows an image through a network"),
    ],
)
def test_what_does_not_fit_is_one_line(reticent, write_clinic, site_ledger, options, message):
    ended = reticent("train", write_clinic(), "--label", "label", "--noise-multiplier", "1", *options)
    assert ended.code == 2
    assert message in ended.err
    assert len(ended.err.strip().splitlines()) <= 2
    assert not site_ledger.exists()


def test_a_segmenters_encoder_starts_a_classifier_frozen_or_not_and_held_out_patients_stay_apart(reticent, write_masks):
    manifest = write_masks()
    base = ["train", manifest, "--steps", "3", "--image-size", "16", "--ema-decay", "0"]
    ended = reticent(*base, "--column", "mask=mask", "--non-private", "--out", "masks")
    assert ended.code == 0, ended.err
    start = ["--label", "label", "--model", "unet-encoder", "--init-from", "masks/release/model.safetensors"]
    start += ["--init-origin", "own masks", "--non-private"]
    for what in ("last", "all"):
        ended = reticent(*base, *start, "--fine-tune", what, "--out", what)
        assert ended.code == 0, ended.err
        assert "12 of the network's 14 tensors start from it" in ended.err
    segmenter = load_file("masks/release/model.safetensors")
    frozen, tuned = (load_file(f"{what}/release/model.safetensors") for what in ("last", "all"))
    encoder = [name for name in frozen if not name.startswith("head")]
    assert all((frozen[name] == segmenter[name]).all() for name in encoder)
    assert not any((tuned[name] == segmenter[name]).all() for name in encoder)
    private = reticent(*base, *start[:-1], "--noise-multiplier", "1", "--out", "private")
    assert (private.code, "not releasable" in private.err) == (2, True)
    other = manifest.with_name("other.csv")
    text = manifest.read_text().replace(",test", ",TEST").replace("p1,1.png,1,train", "p1,1.png,1,test")
    other.write_text(text.replace(",TEST", ",train"))
    apart = reticent("train", other, *base[2:], *start, "--out", "seen")
    assert (apart.code, "trained on 1 of 1 held-out subjects" in apart.err) == (2, True)
    assert not Path("seen").exists()


def test_crops_of_predicted_masks_keep_labels_and_flag_where_nothing_was_found(reticent, write_masks):
    manifest = write_masks(empty=(3,))
    train = ["train", manifest, "--column", "mask=mask", "--image-size", "32", "--learning-rate", "0.02"]
    ended = reticent(*train, "--steps", "30", "--sampling-rate", "0.5", "--non-private", "--out", "masks")
    assert ended.code == 0, ended.err
    cut = reticent("localise", manifest, "--run", "masks", "--margin", "2", "--share", "0", "--out", "crops")
    assert cut.code == 0, cut.err
    with Path("crops/manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"file", "subject", "label", "split", "localised"}
    assert [row["localised"] for row in rows].count("0") == int("Nothing was found" in cut.out)
    sizes = [Image.open(Path("crops") / row["file"]).size for row in rows if row["localised"] == "1"]
    assert len(sizes) >= 20
    assert all(width == height for width, height in sizes)
    assert sum(width < 24 for width, _ in sizes) >= 15  # most: 30 steps from no seed leave a speck here and there
    options = ["--label", "label", "--image-size", "16", "--steps", "2", "--out", "run"]
    private = reticent("train", "crops/manifest.csv", *options, "--noise-multiplier", "1")
    assert (private.code, "cut out by a run that is not releasable" in private.err) == (2, True)
    assert reticent("train", "crops/manifest.csv", *options, "--non-private").code == 0
    again = reticent("localise", manifest, "--run", "run", "--out", "more")
    assert (again.code, "draws no masks, which localisation needs" in again.err) == (2, True)


def crossval(reticent, write_clinic, privacy, *options):
    Path("study.toml").write_text(STUDY.format(uri=write_clinic(), privacy=privacy))
    return reticent("crossval", "study.toml", "--folds", "2", "--inner", "2", "--out", "out", *options)


def test_variants_and_references_are_compared_on_held_out_patients(reticent, write_clinic, site_ledger):
    ended = crossval(reticent, write_clinic, "non_private = true")
    assert ended.code == 0, ended.err
    record = json.loads(Path("out/crossval.json").read_text())
    names = ["image", "markers", "markers alone", "missing values alone", "acquisition alone"]
    assert [row["name"] for row in record["rows"]] == names
    assert (record["subjects"], record["positives"], record["runs"]) == (30, 14, 2 + 2 + 2 * 2 * 2)
    assert sum(record["rows"][1]["chosen"].values()) == 2
    assert record["rows"][2]["auroc"]["value"] > 0.9
    assert record["rows"][3]["auroc"]["value"] < 0.8
    scores = json.loads(Path("out/scores.json").read_text())
    assert all(len(scores[name][0]) == 30 for name in names)
    assert "| image |" in Path("out/table.md").read_text()
    assert Path("out/auroc.svg").read_text().startswith("<?xml")
    assert Path("out").stat().st_mode & 0o77 == 0
    before = sorted(path.name for path in Path("out/runs").iterdir())
    with Ledger.open(site_ledger) as ledger:
        entries = len(ledger.entries())
    assert reticent("crossval", "study.toml", "--folds", "2", "--inner", "2", "--out", "out").code == 0
    with Ledger.open(site_ledger) as ledger:
        assert len(ledger.entries()) == entries  # nothing was run again
    assert sorted(path.name for path in Path("out/runs").iterdir()) == before
    other = reticent("crossval", "study.toml", "--folds", "3", "--inner", "2", "--out", "out")
    assert (other.code, "holds another cross-validation" in other.err) == (2, True)


def test_privately_every_fold_and_every_choice_is_charged_and_their_sum_is_stated(reticent, write_clinic, site_ledger):
    ended = crossval(reticent, write_clinic, "noise_multiplier = 1.5")
    assert ended.code == 0, ended.err
    record = json.loads(Path("out/crossval.json").read_text())
    assert [row["name"] for row in record["rows"]] == ["image", "markers"]
    assert "were not fitted" in ended.out
    runs = {RunFolder(path).statement().run: path for path in Path("out/runs").iterdir()}
    with Ledger.open(site_ledger) as ledger:
        entries = [entry for entry in ledger.entries() if entry.event == "settle"]
        choices = [entry for entry in entries if entry.run not in runs]
        assert len(entries) == len(runs) + 2
        assert {mechanism_from_dict(entry.mechanism) for entry in choices} == {Gaussian(4.0)}
        trained = Counter(p for path in runs.values() for p in RunFolder(path).training_pseudonyms())
        for patient in range(30):
            charged = ledger.runs(f"patient {patient}")
            assert sum(run in runs for run in charged) == trained[ledger.pseudonym(f"patient {patient}")]
            assert len(charged) - sum(run in runs for run in charged) == 1  # in the fold that did not hold it out
        spent = ledger.spent("patient 1")
    at_most = Composition((*spent.mechanisms, Gaussian(4.0)))  # one choice too many is counted, on the safe side
    assert record["epsilon"]["upper"] >= privacy_numbers(spent, 1e-5)["epsilon"].upper
    assert record["epsilon"]["upper"] == pytest.approx(privacy_numbers(at_most, 1e-5)["epsilon"].upper, rel=0.05)


def test_an_interrupted_cross_validation_goes_on(reticent, write_clinic, monkeypatch):
    from reticent.training import PrivateRun

    steps, draws = PrivateRun.steps, []

    def interrupted(run):
        for step in steps(run):
            draws.append(step.index)
            if len(draws) == 14:
                raise KeyboardInterrupt
            yield step

    with monkeypatch.context() as patch:
        patch.setattr(PrivateRun, "steps", interrupted)
        ended = crossval(reticent, write_clinic, "non_private = true")
    assert (ended.code, "the same command goes on" in ended.out) == (130, True)
    done = {path.name for path in Path("out/runs").iterdir() if (path / "private" / "fold_scores.json").exists()}
    kept = {name: RunFolder(Path("out/runs") / name).statement().run for name in done}
    assert kept
    assert reticent("crossval", "study.toml", "--folds", "2", "--inner", "2", "--out", "out").code == 0
    assert {name: RunFolder(Path("out/runs") / name).statement().run for name in done} == kept


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (("patient 1,0", "patient 1,1"), [], "subject patient 1 has two outcomes, 0 (1-0.png) and 1 (1-1.png)"),
        (("", ""), ["--folds", "15"], "14 subjects of class '1' are fewer than 15 folds; use at most 14"),
        (("", ""), ["--over", "privacy.non_private=true,false"], "exactly one privacy target"),
        (("", ""), ["--over", "cohort.unit='record','subject'"], "differ in cohort, label, unit"),
    ],
)
def test_cohorts_that_cannot_be_folded_are_refused_before_anything_is_charged(
    reticent, write_clinic, site_ledger, change, options, message
):
    manifest = write_clinic()
    lines = manifest.read_text().splitlines()
    lines = [line.replace(*change) if line.startswith("1-1") else line for line in lines]
    manifest.write_text("\n".join(lines) + "\n")
    Path("study.toml").write_text(STUDY.format(uri=manifest, privacy="non_private = true"))
    ended = reticent("crossval", "study.toml", "--folds", "3", "--out", "out", *options)
    assert ended.code == 2
    assert message in ended.err
    assert not site_ledger.exists()


def test_recist_writes_categories_labels_and_counts(reticent):
    rows = ["subject,visit,lesion,diameter,ca19_9", "a,0,L1,50,100", "a,1,L1,30,90", "b,0,L1,50,100", "b,1,L1,49,130"]
    Path("lesions.csv").write_text("\n".join([*rows, "c,0,L1,50,", "c,1,L1,49,"]) + "\n")
    ended = reticent("recist", "lesions.csv", "--out", "response.csv", "--labels", "labels.csv")
    assert ended.code == 0, ended.err
    assert "RECIST at the first visit of 3 subjects: SD 2, PR 1" in ended.out
    assert "undetermined 1" in ended.out
    assert Path("labels.csv").read_text() == "subject,label\na,responder\nb,non-responder\n"
    assert "a,1,50,50,30,PR,neither,responder" in Path("response.csv").read_text()
    assert reticent("recist", "lesions.csv", "--out", "response.csv").code == 2


def test_masks_guide_a_classifier_whose_labels_are_partly_missing(reticent, write_masks, small):
    """Private: everybody who trains is charged; attacks on membership look at patients with labels alone."""
    manifest = write_masks()
    lines = manifest.read_text().splitlines()
    cells = [line.split(",") for line in lines[1:]]
    alone = [row[1] for k, row in enumerate(cells) if row[4] == "train" and k % 3 == 0]
    manifest.write_text(
        "\n".join([lines[0], *(",".join([*row[:3], "" if row[1] in alone else row[3], row[4]]) for row in cells)])
        + "\n"
    )
    options = ["--label", "label", "--noise-multiplier", "1", "--steps", "4", "--out", "run"]
    refused = reticent("train", manifest, *options)
    assert (refused.code, "--mask-weight 0.5 learns from such masks" in refused.err) == (2, True)
    assert "images with a mask and no label" in reticent("data", manifest, "--label", "label").printed
    ended = reticent("train", manifest, *options, "--mask-weight", "0.5", "--model-argument", "width=4")
    assert ended.code == 0, ended.err
    run = RunFolder(Path("run"))
    assert len(run.training_pseudonyms()) == 18
    assert run.metrics().splits[-1].records == 6
    predicted = reticent("predict", "run", manifest.parent / "images")
    assert len(predicted.printed.splitlines()) == 25
    no_sense = reticent("audit", "run", "--attack", "gradient-inversion")
    assert (no_sense.code, "the run's gradients are of masks too" in no_sense.err) == (2, True)
    attacks = ["loss", "lira", "identification", "step"]
    chosen = [part for name in attacks for part in ("--attack", name)]
    audited = reticent(
        "audit", "run", *chosen, "--set", "lira.references=2", "--set", "step.canaries=20", "--seed", "1"
    )
    assert audited.code == 0, audited.err
    assert {finding.attack for finding in read_findings(run)} == set(attacks)


def test_images_without_labels_start_a_classifier(reticent, write_masks, site_ledger):
    """The private encoder may start a private classifier: both are charged to their patients."""
    manifest = write_masks()
    base = [
        "train",
        manifest,
        "--noise-multiplier",
        "1",
        "--steps",
        "3",
        "--sampling-rate",
        "0.3",
        "--image-size",
        "32",
    ]
    first = reticent(*base, "--pretrain", "--out", "images")
    assert first.code == 0, first.err
    run = RunFolder(Path("images"))
    assert set(run.metrics().splits[-1].metrics) == {"r2", "mse"}
    assert "Mean squared error" in Path("images/report.html").read_text()
    start = ["--init-from", "images/release/model.safetensors", "--init-origin", "the same images, without labels"]
    second = reticent(*base, "--label", "label", "--model", "unet-encoder", *start, "--out", "run")
    assert second.code == 0, second.err
    assert "12 of the network's 14 tensors start from it" in second.err
    assert "the statement will be of both together" in second.err
    said, own = RunFolder(Path("run")).statement(), mechanism_from_dict(run.statement().mechanism)
    assert said.composed_runs == (run.state().run,)
    assert mechanism_from_dict(said.mechanism) == Composition((own, own))
    assert said.epsilon.upper > run.statement().epsilon.upper
    assert "Composed with" in Path("run/report.html").read_text()
    with Ledger.open(site_ledger) as ledger:
        settled = [entry for entry in ledger.entries() if entry.event == "settle"]
    assert [mechanism_from_dict(entry.mechanism) for entry in settled] == [own, own]
    again = ["--init-from", "run/release/model.safetensors", "--init-origin", "a second stage"]
    third = reticent(*base, "--label", "label", "--model", "unet-encoder", *again, "--out", "third")
    assert third.code == 0, third.err
    told = RunFolder(Path("third")).statement()
    assert told.composed_runs == (said.run, run.state().run)  # the first is part of the second, and not counted twice
    assert mechanism_from_dict(told.mechanism) == Composition((Composition((own, own)), own))
    cited = reticent("cite", "images").printed
    assert "pathak2016context" in cited
    assert "smooth" not in cited.lower()
    said = reticent("predict", "images", manifest)
    assert (said.code, "predicts nothing; start others from it" in said.err) == (2, True)
    audited = reticent("audit", "images", "--attack", "step", "--set", "step.canaries=20", "--seed", "1")
    assert audited.code == 0, audited.err
    reasons = {"loss": "does not score", "planted-images": "does not score", "imprint": "images that are partly hidden"}
    for attack, reason in reasons.items():
        no_sense = reticent("audit", "images", "--attack", attack)
        assert (no_sense.code, reason in no_sense.err) == (2, True), no_sense.err
    both = reticent(*base, "--pretrain", "--label", "label", "--out", "both")
    assert (both.code, "leave out --label" in both.err) == (2, True)
