"""Records on disk: complete or absent, typed, and refused when altered."""

import errno
import json
import math
import os
import stat
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.accounting import Gaussian, SubsampledGaussian, Unbounded
from reticent.errors import InputError
from reticent.records import (
    Journal,
    Number,
    RunFolder,
    default_run_path,
    make_study,
    privacy_numbers,
    read_json,
    read_study,
    round_up,
    write_file,
    write_json,
    write_text,
)
from reticent.records.files import write_folder

BASE = {"cohort": {"uri": "clinic/manifest.csv"}, "privacy": {"epsilon": 8, "delta": 1e-4}}


def study(**sections):
    return make_study({name: {**BASE.get(name, {}), **sections.get(name, {})} for name in {*BASE, *sections}})


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_that_cannot_be_written_keeps_its_earlier_content(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})

    def half(aside):
        aside.write_text("half")
        full()

    with pytest.raises(InputError, match=r"value.json: could not be saved \(No space left on device\)"):
        write_file(path, half)
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["value.json"]


def test_a_folder_appears_in_one_piece_or_not_at_all(tmp_path):
    path = tmp_path / "release"
    with pytest.raises(InputError, match="could not be saved"):
        write_folder(path, {"a": lambda p: write_text(p, "a"), "b": full})
    assert not list(tmp_path.iterdir())
    (tmp_path / ".release.partial").mkdir()
    (tmp_path / ".release.partial" / "stale").touch()
    write_folder(path, {"a": lambda p: write_text(p, "a")})
    assert [p.name for p in path.iterdir()] == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == ["release"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_holds_no_infinities(tmp_path, value):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", value)
    assert not list(tmp_path.iterdir())


def test_altered_and_missing_records_are_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        read_json(tmp_path / "x.json")


def test_journal_counts_on_where_it_stopped_and_never_beyond_the_plan(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path, 3) as journal:
        assert [journal.start_step(), journal.start_step()] == [0, 1]
    with Journal(path, 3) as journal:
        assert (journal.started, journal.start_step()) == (2, 2)
        with pytest.raises(InputError, match="all 3 planned steps are spent"):
            journal.start_step()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1, 2]
    with pytest.raises(InputError, match="3 steps started, but only 2 planned"):
        Journal(path, 2)


def test_a_step_is_on_disk_before_start_step_returns(tmp_path, monkeypatch):
    path, synced = tmp_path / "journal.jsonl", []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(path.read_text()))
    with Journal(path, 3) as journal:
        assert synced == [""]  # the folder, so that the new file's name lasts
        journal.start_step()
    assert synced == ["", '{"step": 0}\n']


@pytest.mark.parametrize("torn", ["{", '{"step": 1', '{"step": 1}'])
def test_a_torn_line_counts_as_a_started_step(tmp_path, torn):
    path = tmp_path / "journal.jsonl"
    path.write_text('{"step": 0}\n' + torn)
    with Journal(path, 4) as journal:
        assert journal.start_step() == 2
    assert path.read_text() == '{"step": 0}\n' + torn + '\n{"step": 2}\n'


def test_a_journal_is_open_in_one_place_at_a_time(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path, 4), pytest.raises(InputError, match="another process"):
        Journal(path, 4)
    Journal(path, 4).close()


def test_a_run_folder_is_made_once_and_its_private_part_is_the_owner_s(tmp_path):
    folder = RunFolder.create(tmp_path / "runs" / "a", study())
    assert stat.S_IMODE(folder.private.stat().st_mode) == 0o700
    assert folder.study() == study()
    with pytest.raises(InputError, match=r"exists already.*--resume"):
        RunFolder.create(tmp_path / "runs" / "a", study())


def test_what_is_no_run_and_what_never_began_is_said(tmp_path):
    with pytest.raises(InputError, match="not a run folder"):
        RunFolder.open(tmp_path)
    folder = RunFolder.create(tmp_path / "a", study())
    with pytest.raises(InputError, match="stopped before its first step"):
        RunFolder.open(folder.path, finished=False)


def test_altered_run_state_is_refused_with_the_field(tmp_path):
    folder = RunFolder.create(tmp_path / "a", study())
    write_json(folder.private / "run.json", {"schema": "reticent.run/1", "status": "running"})
    with pytest.raises(InputError, match=r"run.json: \w+: Field required; the file is of another version or was"):
        folder.state()


def test_run_folders_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(default_run_path("chest")) == "runs/chest-001"
    for name in ("chest-001", "chest-003", "other-002"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert str(default_run_path("chest")) == "runs/chest-002"


def test_a_study_survives_toml(tmp_path):
    original = study(
        cohort={"columns": {"subject": "Patient-ID"}, "labels": ("a", "b"), "image_size": (32, 48)},
        model={"name": "monai:DenseNet", "arguments": {"growth_rate": 4}},
        training={"class_weights": (1.0, 2.5)},
    )
    (tmp_path / "study.toml").write_text(original.to_toml())
    assert make_study(read_study(tmp_path / "study.toml")) == original


def test_studies_without_banded_noise_keep_the_digest_that_ledgers_hold():
    before_there_was_a_choice = "fba5b042fa0798dd0b35123f9a009e7f05b45fe6b48edd809745b10047b8211f"
    assert study().digest() == before_there_was_a_choice
    assert study(privacy={"noise": "independent"}).digest() == before_there_was_a_choice
    banded = [study(privacy={"noise": "banded", "bands": bands}) for bands in (1, 2, 3)]
    assert len({before_there_was_a_choice, *(s.digest() for s in banded)}) == 4


def test_a_study_names_its_groups():
    assert study().privacy.groups == 1
    banded = study(privacy={"noise": "banded", "bands": 4})
    assert banded.privacy.groups == 4
    assert make_study(tomllib.loads(banded.to_toml())) == banded


def test_the_public_part_names_no_place(tmp_path):
    public = study(
        cohort={"uri": "/home/clinic/secret.csv", "columns": {"subject": "PatientID"}, "labels": ("sepsis",)},
        model={"init_from": "/home/clinic/weights.pt", "init_origin": "CC0"},
    ).public_part()
    text = json.dumps(public)
    assert not any(word in text for word in ("/home", "secret", "PatientID", "sepsis"))
    assert public["model"]["init_from"] == "weights.pt"


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"privacy": {"mu": 1.0}}, "found --epsilon and --mu"),
        ({"privacy": {"epsilon": None}}, "found none"),
        ({"privacy": {"delta": None}}, "--epsilon needs --delta"),
        ({"privacy": {"non_private": True}}, "found --epsilon and --non-private"),
        ({"privacy": {"epsilon": -1}}, "privacy.epsilon: Input should be greater than 0"),
        ({"privacy": {"sampling_rate": 1.5}}, "privacy.sampling_rate"),
        ({"privacy": {"steps": 0}}, "privacy.steps"),
        ({"privacy": {"noise": "pink"}}, "privacy.noise: Input should be 'independent' or 'banded'"),
        ({"privacy": {"noise": "banded"}}, "--noise banded and --bands"),
        ({"privacy": {"bands": 4}}, "--noise banded and --bands"),
        ({"privacy": {"noise": "independent", "bands": 1}}, "--noise banded and --bands"),
        ({"privacy": {"noise": "banded", "bands": 0}}, "privacy.bands"),
        ({"privacy": {"noise": "banded", "bands": 9, "steps": 8}}, "--bands 9 is more than --steps 8"),
        ({"privacy": {"noise": "banded", "bands": 4, "epsilon": None, "non_private": True}}, "leave one of them out"),
        ({"privacy": {"max_norm": math.inf}}, "privacy.max_norm"),
        ({"training": {"learning_rat": 1}}, "training.learning_rat: no such option"),
        ({"model": {"init_from": "w.pt"}}, "--init-from needs --init-origin"),
        ({"privacy": {"budget": "mu=1"}, "training": {"twin": True}}, "--budget admits no job without privacy"),
        ({"cohort": {"unit": "hospital"}}, "cohort.unit"),
    ],
)
def test_options_that_make_no_study_are_refused_in_a_line(sections, message):
    with pytest.raises(InputError) as refused:
        study(**sections)
    assert message in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a =", "not a TOML file"),
        ('schema = "reticent.study/2"', "is not 'reticent.study/1'"),
        (b"\xff", "not a TOML file"),
    ],
)
def test_unreadable_study_files_are_named(tmp_path, content, message):
    path = tmp_path / "study.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        read_study(path)
    with pytest.raises(InputError, match="no such study file"):
        read_study(tmp_path / "other.toml")


@given(st.floats(1e-12, 1e12), st.integers(1, 8))
def test_rounding_up_never_understates_and_is_close(value, digits):
    rounded = round_up(value, digits)
    assert value <= rounded <= value * (1 + 10.0 ** (1 - digits)) * (1 + 1e-6)


@given(st.floats(-1e12, -1e-300) | st.floats(1e-300, 1e-12))
def test_rounding_up_holds_for_tiny_and_negative_values(value):
    assert value <= round_up(value) <= value + abs(value) * 1.001e-3


def test_numbers_say_what_kind_they_are():
    numbers = privacy_numbers(Gaussian(2.0), 1e-5)
    assert numbers["mu"].kind == "exact"
    assert numbers["mu"].upper == pytest.approx(0.5)
    assert privacy_numbers(SubsampledGaussian(2.0, 0.1, 10), 1e-5)["epsilon"].kind == "upper bound"
    unbounded = privacy_numbers(Unbounded("no noise"), 1e-5)
    assert str(unbounded["epsilon"]) == "unbounded"
    assert unbounded["epsilon"].upper is None
    assert isinstance(unbounded["advantage"], Number)


def test_the_tradeoff_curve_of_a_statement_is_the_gaussian_s():
    from scipy.stats import norm

    for alpha, beta in privacy_numbers(Gaussian(2.0), 1e-5)["tradeoff"]:
        assert beta == pytest.approx(norm.cdf(norm.isf(alpha) - 0.5), rel=1e-6, abs=1e-12)
