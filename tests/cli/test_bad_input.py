"""Wrong input as a user of `reticent train` meets it: exit code 2, one or two lines, and nothing lost or charged."""

import re
import resource
import sqlite3
from pathlib import Path

import nibabel
import numpy as np
import pytest

import reticent.report as reticent_report
from reticent.governance import Ledger
from reticent.records import Journal, RunFolder
from reticent.training.prepared_cohort import PreparedCohort
from reticent.training.private_run import PrivateRun

NOISE = ["--noise-multiplier", "1.5"]


def assert_refused(ended, *patterns):
    """Exit code 2 and at most two lines, without traceback, in which all patterns are found."""
    assert ended.code == 2, ended
    assert "Traceback" not in ended.err
    message = ended.err[ended.err.index("error: ") :].strip()
    assert len(message.splitlines()) <= 2, message
    for pattern in patterns:
        assert re.search(pattern, message), message


def assert_nothing_is_left_or_charged(site_ledger):
    """No run folder, and no reservation that is not settled, as nothing."""
    assert not [path for path in Path().rglob("*") if path.name != "runs"]
    if site_ledger.exists():
        with Ledger.open(site_ledger) as site:
            assert not [group for group in site.spending() if group.mechanism is not None]
            events = [(entry.run, entry.event) for entry in site.entries()]
        assert {run for run, event in events if event == "reserve"} == {run for run, _ in events}
        assert {run for run, event in events if event == "settle"} == {run for run, _ in events}


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def edit(manifest, change):
    """Rewrite the rows of a manifest; `change(number, row)` alters the dictionary of a row, the header being row 1."""
    header, *lines = manifest.read_text().splitlines()
    rows = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    for number, row in enumerate(rows, start=2):
        change(number, row)
    manifest.write_text("\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]) + "\n")


def in_row(wanted, **values):
    return lambda manifest: edit(manifest, lambda number, row: row.update(values if number == wanted else {}))


def in_all_rows(**values):
    return lambda manifest: edit(manifest, lambda number, row: row.update(values))


def with_findings(value):
    """A second label column, with `value` in row 7."""
    return lambda manifest: edit(
        manifest, lambda number, row: row.update(finding=value if number == 7 else str(number % 2))
    )


def image_file(change):
    def write(manifest):
        path = manifest.parent / "images" / "2-1.png"
        path.write_bytes(change(path.read_bytes()))

    return write


TWO_LABELS = ["--label", "label", "--label", "finding"]


@pytest.mark.parametrize(
    ("breaks", "options", "patterns"),
    [
        (image_file(lambda _: b"no image"), [], [r"2-1\.png", "replace the file"]),
        (image_file(lambda content: content[: len(content) // 2]), [], [r"2-1\.png", "replace the file"]),
        (image_file(lambda _: b""), ["--image-size", "16"], [r"2-1\.png", "replace the file"]),
        (in_row(4, file="gone.png"), [], ["row 4", r"gone\.png", "correct or remove"]),
        (in_row(4, file="1-0.png"), [], ["row 4", r"1-0\.png", "row 3", "remove one"]),
        (with_findings("none"), TWO_LABELS, ["row 7", "'none'", "column finding", "0 or 1"]),
        (with_findings("2"), TWO_LABELS, ["row 7", "'2'", "column finding", "0 or 1"]),
        (with_findings(""), TWO_LABELS, ["row 7", "no label in column finding", "unlabelled"]),
        (in_row(9, label="unclear"), [], ["row 9", "'unclear'", "column label", "correct or remove"]),
        (in_row(9, label="0.5"), [], ["row 9", r"'0\.5'", "column label", "whole numbers"]),
        (in_row(9, label=""), [], ["row 9", "no label in column label", "unlabelled"]),
        (in_all_rows(label="1"), [], [r"manifest\.csv", r"one class only \(1\)", "needs two"]),
        (in_row(5, subject=""), [], ["subject is empty in 1 of 60", r"2-0\.png", "--unit record"]),
        (in_all_rows(subject="p"), [], ["all 60 records have the subject p", "column"]),
        (in_row(3, split="test"), [], ["subject patient 1", "test and train", "one split"]),
        (in_all_rows(split="test"), [], ["split train is empty", "found: test", "name the training records train"]),
        (in_row(3, split="tset"), [], ["row 3", "'tset'", "use train, val, test"]),
    ],
)  # fmt: skip
def test_a_wrong_manifest_or_image_is_named_with_its_row_or_file(
    reticent, write_cohort, small, site_ledger, breaks, options, patterns
):
    manifest = write_cohort()
    breaks(manifest)
    assert_refused(reticent("train", manifest, *NOISE, *small, *options), *patterns)
    assert_nothing_is_left_or_charged(site_ledger)


@pytest.mark.parametrize(
    ("kind", "change", "patterns"),
    [
        ("masks", lambda voxels: voxels[:-1], [r"p\.3\.nii\.gz", r"\(4, 7, 12\)", r"\(4, 8, 12\)", "same grid"]),
        ("masks", lambda voxels: voxels * 2, [r"p\.3\.nii\.gz", "values 0 to 2", "labels are 0 to 1"]),
        ("images", lambda voxels: np.where(voxels > 90, np.nan, voxels), [r"p\.3\.nii\.gz", "NaN", "repair it"]),
    ],
)
def test_wrong_volumes_and_masks_are_named(reticent, write_volumes, small, site_ledger, kind, change, patterns):
    manifest = write_volumes()
    path = manifest.parent / kind / "p.3.nii.gz"
    stored = nibabel.load(path)
    voxels = np.asarray(stored.dataobj)
    nibabel.save(nibabel.Nifti1Image(change(voxels).astype(voxels.dtype), stored.affine), path)
    assert_refused(reticent("train", manifest, *NOISE, *small), *patterns)
    assert_nothing_is_left_or_charged(site_ledger)


def test_a_truncated_volume_is_named(reticent, write_volumes, small, site_ledger):
    manifest = write_volumes()
    path = manifest.parent / "images" / "p.3.nii.gz"
    path.write_bytes(path.read_bytes()[:-200])
    assert_refused(reticent("train", manifest, *NOISE, *small), r"p\.3\.nii\.gz", "replace the file")
    assert_nothing_is_left_or_charged(site_ledger)


@pytest.mark.parametrize(
    ("target", "patterns"),
    [
        (["--epsilon", "1", "--delta", "1e-5", "--mu", "1"], ["found --epsilon and --mu", "exactly one"]),
        ([*NOISE, "--non-private"], ["found --noise-multiplier and --non-private", "exactly one"]),
        ([], ["found none", "--epsilon", "--mu", "--advantage", "--noise-multiplier", "--non-private"]),
        (["--epsilon", "1"], ["--epsilon needs --delta"]),
        (["--epsilon", "-1", "--delta", "1e-5"], [r"privacy\.epsilon", "greater than 0"]),
        (["--epsilon", "1e-6", "--delta", "1e-5"], ["epsilon 1e-06 at delta 1e-05 is out of reach", "fewer steps"]),
        (["--advantage", "1e-6"], ["advantage 1e-06 is out of reach", "relax the target"]),
    ],
)
def test_a_wrong_privacy_target_is_refused_with_the_options(
    reticent, write_cohort, small, site_ledger, target, patterns
):
    assert_refused(reticent("train", write_cohort(), *small, *target), *patterns)
    assert_nothing_is_left_or_charged(site_ledger)


@pytest.mark.parametrize("name", ["gone.csv", "gone", "gone.npz", "gone.toml", "medmnist:gone", "phantom:gone"])
def test_a_cohort_that_does_not_exist_is_named(reticent, small, site_ledger, name):
    assert_refused(reticent("train", name, *NOISE, *small), re.escape(name))
    assert_nothing_is_left_or_charged(site_ledger)


def test_images_without_subjects_need_the_unit_to_be_named(reticent, write_npz, small, site_ledger):
    assert_refused(reticent("train", write_npz(), *NOISE, *small), r"scans\.npz", "subject", "--unit record")
    assert_nothing_is_left_or_charged(site_ledger)


def test_an_empty_split_folder_is_named(reticent, write_cohort, small, site_ledger):
    images = write_cohort().parent / "images"
    for folder in ("train/a", "train/b", "test/a"):
        (images.parent / "by class" / folder).mkdir(parents=True)
    for number, path in enumerate(sorted(images.iterdir())):
        path.rename(images.parent / "by class" / "train" / "ab"[number % 2] / path.name)
    ended = reticent("train", images.parent / "by class", *NOISE, *small, "--unit", "record")
    assert_refused(ended, "by class/test: the split is empty", "remove the folder")
    assert_nothing_is_left_or_charged(site_ledger)


def test_an_existing_run_folder_is_kept_as_it_is(reticent, write_cohort, small, site_ledger):
    manifest = write_cohort()
    assert reticent("train", manifest, *NOISE, *small, "--out", "run").code == 0
    before, entries = contents(Path("run")), site_ledger.read_bytes()
    ended = reticent("train", manifest, "--epsilon", "1", "--delta", "1e-5", *small, "--out", "run")
    assert_refused(ended, "run: exists already", "--out", "--resume run")
    assert (contents(Path("run")), site_ledger.read_bytes()) == (before, entries)


@pytest.mark.parametrize(
    "statement",
    [
        """UPDATE entries SET mechanism = replace(mechanism, '1.5', '9.5') WHERE number = 1""",
        "DELETE FROM subjects WHERE entry = 1 AND position = 0",
        "DELETE FROM entries WHERE number = 1",
    ],
)
def test_a_ledger_that_was_tampered_with_admits_no_job(reticent, write_cohort, small, site_ledger, statement):
    manifest = write_cohort()
    assert reticent("train", manifest, *NOISE, *small, "--out", "run").code == 0
    with sqlite3.connect(site_ledger) as connection:
        connection.execute(statement)
    before, entries = contents(Path()), site_ledger.read_bytes()
    ended = reticent("train", manifest, *NOISE, *small, "--out", "second")
    assert_refused(ended, "ledger entry 1 was tampered with", "backup")
    assert (contents(Path()), site_ledger.read_bytes()) == (before, entries)
    assert not Path("second").exists()


def test_a_ledger_that_cannot_be_made_is_named(reticent, write_cohort, small, site_ledger):
    manifest = write_cohort()
    ended = reticent("train", manifest, *NOISE, *small, "--ledger", manifest / "ledger.sqlite")
    assert_refused(ended, r"manifest\.csv/ledger\.sqlite", "--ledger")
    assert_nothing_is_left_or_charged(site_ledger)


@pytest.fixture
def fill_disk(monkeypatch):
    """Lets no file grow while a method is called for the nth time: the kernel itself then refuses to write."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(owner, method, call=1):
        original, calls = getattr(owner, method), []

        def full(*arguments, **named):
            calls.append(method)
            if len(calls) == call:
                resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
            try:
                return original(*arguments, **named)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)

        monkeypatch.setattr(owner, method, full)

    yield fill
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    ("owner", "method"),
    [
        (RunFolder, "create"),
        (Ledger, "reserve"),
        (RunFolder, "write_state"),
        (RunFolder, "write_subjects"),
        (PreparedCohort, "decode"),
    ],
)
def test_a_disk_full_before_the_first_step_leaves_and_charges_nothing(
    reticent, write_cohort, small, site_ledger, fill_disk, owner, method
):
    fill_disk(owner, method)
    ended = reticent("train", write_cohort(), *NOISE, *small, "--out", "run")
    assert_refused(ended, "saved|written|full", "[Mm]ake room|free space")
    assert_nothing_is_left_or_charged(site_ledger)


@pytest.mark.parametrize(
    ("owner", "method", "call"),
    [
        (Journal, "start_step", 3),
        (PrivateRun, "save", 2),
        (RunFolder, "write_metrics", 1),
        (RunFolder, "publish", 1),
        (Ledger, "settle", 1),
        (RunFolder, "write_state", 2),
    ],
)
def test_a_disk_full_while_training_or_saving_leaves_a_run_that_resumes(
    reticent, write_cohort, small, site_ledger, fill_disk, owner, method, call
):
    fill_disk(owner, method, call)
    ended = reticent("train", write_cohort(), *NOISE, *small, "--out", "run")
    assert_refused(ended, "saved|written", "[Mm]ake room")
    assert RunFolder(Path("run")).state().status == "running"
    assert not list(Path("run").rglob(".*.partial"))
    assert reticent("train", "--resume", "run").code == 0
    folder = RunFolder.open(Path("run"))
    assert folder.statement().steps == 4 == len(folder.journal.read_text().splitlines())
    with Ledger.open(site_ledger) as site:
        site.verify(folder.state().anchors)
        charged = [entry.event for entry in site.entries() if entry.mechanism is not None]
    assert charged == ["reserve", "settle"]


def test_a_disk_full_while_the_report_is_written_loses_the_report_only(reticent, write_cohort, small, fill_disk):
    fill_disk(reticent_report, "write_report")
    ended = reticent("train", write_cohort(), *NOISE, *small, "--out", "run")
    assert_refused(ended, r"report\.html: could not be saved", "[Mm]ake room")
    assert RunFolder.open(Path("run")).statement().releasable
    assert reticent("report", "run").code == 0
    assert Path("run/report.html").is_file()
