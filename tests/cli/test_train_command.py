"""`reticent train` as its user sees it: what is printed, warned of, repeated and only tried."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from reticent.data.files import FileReader
from reticent.governance import Ledger
from reticent.records import RunFolder, make_study, read_study
from reticent.training import PrivateRun

NOISE = ["--noise-multiplier", "1.5"]
EPSILON = ["--epsilon", "4", "--delta", "1e-3"]


def statement_of(path):
    return json.loads((Path(path) / "release" / "privacy.json").read_text())


def spoil(manifest):
    """Overwrite the pixels of every image and keep its header."""
    for path in (manifest.parent / "images").iterdir():
        content = path.read_bytes()
        start = content.index(b"IDAT") + 4
        path.write_bytes(content[:start] + bytes(len(content) - start))
        with Image.open(path) as image, pytest.raises((OSError, SyntaxError)):
            image.load()


def table_value(ended, name):
    """The cell of a printed table beside the one that begins with `name`."""
    return re.search(rf"│ {re.escape(name)}\b[^│]*│ ([^│]*?) +│", ended.printed)[1]


def test_the_privacy_table_and_the_words_are_those_of_the_statement(reticent, write_cohort, small):
    ended = reticent("train", write_cohort(), *EPSILON, *small, "--out", "run")
    assert ended.code == 0
    stated, statement = statement_of("run"), RunFolder(Path("run")).statement()
    assert stated["epsilon"]["upper"] <= 4
    assert table_value(ended, "epsilon at delta = 0.001") == str(statement.epsilon)
    assert table_value(ended, "mu") == str(statement.mu)
    assert table_value(ended, "membership advantage") == str(statement.advantage)
    for number in ("epsilon", "mu", "advantage"):
        assert f"│ {stated[number]['kind']} " in ended.printed
    for sentence in statement.words():
        assert " ".join(sentence.split()) in ended.out
    assert "Every patient" in ended.out
    assert "NOT covered by the guarantee" in ended.out
    assert "auroc" in ended.out
    assert "What may leave: run/release" in ended.out
    assert "Report: run/report.html" in ended.out
    assert "Training" in ended.err


def test_without_a_name_runs_are_numbered(reticent, write_cohort, small):
    manifest = write_cohort()
    for _ in range(2):
        assert reticent("train", manifest, *NOISE, *small).code == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["clinic-001", "clinic-002"]


def test_a_run_without_privacy_is_marked_as_not_releasable(reticent, write_cohort, small):
    ended = reticent("train", write_cohort(), "--non-private", *small, "--out", "run")
    assert ended.code == 0
    assert "WITHOUT differential privacy" in ended.out
    assert "not releasable" in ended.out
    assert "Nothing of this run may leave" in ended.out
    assert table_value(ended, "epsilon at delta = 1e-05") == "unbounded"
    assert statement_of("run")["releasable"] is False
    assert "Not releasable" in Path("run/report.html").read_text()
    assert "unbounded" in reticent("ledger", "run").out


def test_the_unit_record_is_named_in_every_output(reticent, write_npz, small, site_ledger):
    archive = write_npz()
    options = [archive, *NOISE, *small, "--unit", "record"]
    assert (
        table_value(reticent("train", *options, "--dry-run"), "unit of privacy")
        == "record (single images, not patients)"
    )
    ended = reticent("train", *options, "--out", "run")
    assert ended.code == 0
    assert "Every single record (image), not patient" in ended.out
    assert ended.out.count("unit: record") == 2  # above both tables
    stated = statement_of("run")
    assert stated["unit"] == stated["mechanism"]["unit"] == "record"
    assert any("patients: only single records are protected" in gap for gap in stated["not_covered"])
    assert json.loads(Path("run/release/study.json").read_text())["cohort"]["unit"] == "record"
    assert "The unit of protection is the single record" in Path("run/report.html").read_text()
    ledger = reticent("ledger", "run")
    assert ledger.out.count("20 records") == 2  # among the entries, and among what was spent
    assert "subjects" not in ledger.out
    shown = json.loads(reticent("ledger", "--json").printed)
    assert [entry["unit"] for entry in shown["entries"] if entry["event"] == "reserve"] == ["record"]
    assert [group["unit"] for group in shown["spending"]] == ["record"]
    assert "unit record" in reticent("data", archive, "--unit", "record").out
    assert "--unit record" in reticent("data", archive).out


def test_a_delta_that_publishing_a_patient_would_satisfy_warns_with_the_reason_and_continues(
    reticent, write_cohort, small
):
    manifest = write_cohort()
    ended = reticent("train", manifest, *NOISE, "--delta", "0.05", *small, "--out", "run")
    assert ended.code == 0
    warning = next(line for line in ended.err.splitlines() if line.startswith("warning:"))
    for words in ("delta = 0.05", "1 / training subjects", "one of them in full", "smaller --delta"):
        assert words in warning
    assert statement_of("run")["delta"] == 0.05
    below = reticent("train", manifest, *NOISE, "--delta", "0.04", *small, "--out", "below")
    assert below.code == 0
    assert "warning" not in below.err


def test_a_dry_run_reads_no_pixels_and_charges_nothing(reticent, write_cohort, small, site_ledger):
    manifest, intact = write_cohort("spoilt"), write_cohort("intact")
    spoil(manifest)
    dry = reticent("train", manifest, *EPSILON, *small, "--dry-run", "--out", "dry")
    assert dry.code == 0
    assert not list(Path().iterdir())
    assert not site_ledger.parent.exists()
    assert re.search("nothing was .*charged", dry.out)
    assert table_value(dry, "steps") == "4"
    assert table_value(dry, "training subjects") == "24"
    assert re.fullmatch(r"about \d+ (seconds|minutes) on this machine", table_value(dry, "expected time"))
    assert re.match(r"about \d+ MB", table_value(dry, "expected memory"))
    assert reticent("train", manifest, *EPSILON, *small).code == 2  # for the pixels are spoilt
    assert reticent("train", intact, *EPSILON, *small, "--out", "run").code == 0
    stated = statement_of("run")
    assert float(table_value(dry, "noise multiplier")) == pytest.approx(stated["noise_multiplier"], abs=5e-5)
    assert table_value(dry, "mu").startswith(str(RunFolder(Path("run")).statement().mu))


def test_a_study_file_repeats_the_run(reticent, write_cohort, small):
    options = [*NOISE, *small, "--seed", "5", "--class-weights", "1,2.5", "--label", "label", "--image-size", "12"]
    assert reticent("train", write_cohort(), *options, "--out", "first").code == 0
    assert reticent("train", "first/study.toml", "--out", "again").code == 0
    first, again = RunFolder.open(Path("first")), RunFolder.open(Path("again"))
    assert again.study() == first.study()
    own = {"run", "created"}
    assert again.statement().model_dump(exclude=own) == first.statement().model_dump(exclude=own)
    assert again.weights.read_bytes() == first.weights.read_bytes()


def test_flags_replace_the_values_of_a_study_file_and_no_others(reticent, write_cohort, small):
    assert reticent("train", write_cohort(), *NOISE, *small, "--out", "first").code == 0
    flags = ["--noise-multiplier", "2", "--steps", "3", "--learning-rate", "0.5", "--image-size", "12"]
    assert reticent("train", "first/study.toml", *flags, "--out", "second").code == 0
    expected = read_study(Path("first/study.toml"))
    expected["privacy"] |= {"noise_multiplier": 2.0, "steps": 3}
    expected["training"]["learning_rate"] = 0.5
    expected["cohort"]["image_size"] = [12]
    assert RunFolder(Path("second")).study() == make_study(expected)
    stated = statement_of("second")
    assert (stated["noise_multiplier"], stated["steps"]) == (2.0, 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [('privacy = 3\n[cohort]\nuri = "phantom:chest"\n', "privacy is not a table"), ("", "names no cohort")],
)
@pytest.mark.parametrize("command", [["train", "--mu", "1"], ["data"]])
def test_a_study_of_another_form_is_refused(reticent, command, text, words, site_ledger):
    Path("study.toml").write_text(text)
    ended = reticent(command[0], "study.toml", *command[1:])
    assert ended.code == 2
    assert words in ended.err
    assert not site_ledger.exists()


def test_a_target_as_a_flag_replaces_that_of_the_file(reticent, write_cohort, small):
    assert reticent("train", write_cohort(), *NOISE, *small, "--out", "first").code == 0
    assert reticent("train", "first/study.toml", *EPSILON, "--out", "second").code == 0
    privacy = RunFolder(Path("second")).study().privacy
    assert (privacy.epsilon, privacy.noise_multiplier) == (float(EPSILON[1]), None)


def test_a_study_names_its_cohort_in_full_so_that_it_is_found_from_elsewhere(
    reticent, write_cohort, small, tmp_path, monkeypatch
):
    manifest = write_cohort()
    monkeypatch.chdir(manifest.parent)
    assert reticent("train", "manifest.csv", *NOISE, *small, "--out", tmp_path / "run").code == 0
    monkeypatch.chdir(tmp_path / "work")
    assert reticent("train", tmp_path / "run" / "study.toml", "--out", "again").code == 0
    assert reticent("data", tmp_path / "run" / "study.toml").code == 0


def test_a_dry_run_with_records_as_units_opens_no_image(reticent, write_cohort, small, monkeypatch):
    manifest = write_cohort()
    monkeypatch.setattr(FileReader, "digest", lambda *_: pytest.fail("an image was read"))
    dry = reticent("train", manifest, "--unit", "record", *EPSILON, *small, "--dry-run")
    assert dry.code == 0
    assert table_value(dry, "training records") == "48"


def test_a_hand_written_study_with_an_unknown_option_is_refused_with_its_place(reticent, write_cohort, site_ledger):
    Path("study.toml").write_text(
        f'[cohort]\nuri = "{write_cohort()}"\n[privacy]\nmu = 1.0\nsteps = 4\n[training]\nlearning_rat = 1.0\n'
    )
    ended = reticent("train", "study.toml")
    assert ended.code == 2
    assert "error: study.toml: training.learning_rat" in ended.err
    assert not site_ledger.exists()


def test_resuming_takes_no_other_options_and_no_finished_run(reticent, write_cohort, small, site_ledger):
    assert reticent("train", write_cohort(), *NOISE, *small, "--out", "run").code == 0
    entries = site_ledger.read_bytes()
    for arguments, words in ((["--steps", "9"], "leave out the cohort and other options"), ([], "run is finished")):
        ended = reticent("train", "--resume", "run", *arguments)
        assert ended.code == 2
        assert words in ended.err
    assert site_ledger.read_bytes() == entries


def test_a_twin_is_shown_beside_the_model_and_charged(reticent, write_cohort, small):
    ended = reticent("train", write_cohort(), *NOISE, *small, "--twin", "--out", "run")
    assert ended.code == 0
    assert "val, non-private twin" in ended.out
    assert "unbounded" in reticent("ledger").out


def test_banded_noise_is_planned_trained_resumed_charged_and_cited(reticent, write_cohort, small, monkeypatch):
    options = [write_cohort(), "--epsilon", "8", "--delta", "1e-4", *small, "--noise", "banded", "--bands", "2"]
    dry = reticent("train", *options, "--dry-run")
    assert dry.code == 0
    assert table_value(dry, "sampling rate").startswith("0.3 of the group whose turn it is (of 2)")
    assert "correlated over 2 steps" in table_value(dry, "noise multiplier")
    save = PrivateRun.save

    def killed(self, **objects):
        save(self, **objects)
        if self.journal.started == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PrivateRun, "save", killed)
        assert reticent("train", *options, "--out", "run").code == 130
    ended = reticent("train", "--resume", "run")
    assert ended.code == 0
    stated = statement_of("run")
    assert stated["mechanism"]["type"] == "BandedGaussian"
    assert (stated["mechanism"]["bands"], stated["sampling"]) == (2, "cyclic-poisson")
    assert float(table_value(dry, "noise multiplier").split(",")[0]) == pytest.approx(
        stated["noise_multiplier"], abs=5e-5
    )
    assert table_value(dry, "mu").startswith(str(RunFolder(Path("run")).statement().mu))
    assert "bands 2" in reticent("ledger", "run").out
    assert "choquette2023amplified" in reticent("cite", "run").printed


def test_a_flag_turns_the_banded_noise_of_a_study_file_off(reticent, write_cohort, small):
    options = [*NOISE, *small, "--noise", "banded", "--bands", "2"]
    assert reticent("train", write_cohort(), *options, "--out", "first").code == 0
    assert reticent("train", "first/study.toml", "--noise", "independent", "--out", "second").code == 0
    assert statement_of("second")["mechanism"]["type"] == "SubsampledGaussian"
    assert reticent("train", "first/study.toml", "--bands", "4", "--out", "third").code == 0
    assert statement_of("third")["mechanism"]["bands"] == 4


def test_a_budget_refuses_the_second_job(reticent, write_cohort, site_ledger, small):
    options = [write_cohort(), *NOISE, *small, "--budget", "epsilon=3.5,delta=1e-5"]
    assert reticent("train", *options, "--out", "first").code == 0
    ended = reticent("train", *options, "--out", "second")
    assert ended.code == 2
    assert re.search("budget epsilon=3.5,delta=1e-05: 24 of .*24 subjects would exceed it", ended.err)
    assert not Path("second").exists()
    with Ledger.open(site_ledger) as site:
        assert [entry.event for entry in site.entries()] == ["reserve", "settle"]


@pytest.mark.parametrize(
    "options",
    [
        ["--model", "resnet9", "--bias-aware", "0.05"],
        ["--model", "smoothnet", "--model-argument", "depth=2"],
        ["--model", "complex", "--bias-aware", "0.05"],
        ["--scale-norm"],
        ["--standardise-weights", "--views", "3", "--clipping", "automatic"],
        ["--clipping", "per-layer", "--twin"],
    ],
    ids=["resnet9, bias-aware", "smoothnet", "complex, bias-aware", "scale norm", "recipe", "per layer, twin"],
)
def test_networks_and_objectives_by_name_train_and_predict(reticent, write_cohort, small, options):
    manifest = write_cohort()
    ended = reticent("train", manifest, *NOISE, *small, "--image-size", "16", *options, "--out", "run")
    assert ended.code == 0, ended.err
    ended = reticent("predict", "run", manifest)
    assert ended.code == 0, ended.err
    assert len(ended.printed.splitlines()) > 10


def test_a_network_for_whole_images_is_refused_for_masks(reticent, write_volumes, small):
    ended = reticent("train", write_volumes(), *NOISE, *small, "--model", "resnet9", "--out", "run")
    assert ended.code == 2
    assert "'resnet9' classifies whole images" in ended.err
    assert not Path("run").exists()


def test_a_guarantee_that_excludes_next_to_nothing_is_called_that(reticent, write_cohort, small):
    weak = ["--noise-multiplier", "0.05", "--delta", "0.01", *small, "--steps", "16"]
    ended = reticent("train", write_cohort(), *weak, "--out", "run")
    assert ended.code == 0, ended.err
    assert "The guarantee excludes next to nothing" in ended.out
    assert "What may leave" not in ended.out
