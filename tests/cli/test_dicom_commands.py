import csv
import json
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pytest
from dicom_tree import uid, voxels, write_labels, write_series

from reticent.records import RunFolder


@pytest.fixture
def hospital(tmp_path):
    """Ten patients with a CT and a scout each, half of them ill, which shows; some defects; labels by PatientID."""
    root = tmp_path / "archive"
    for patient in range(10):
        volume = voxels(patient, (5, 8, 8))
        volume[1:4, 2:6, 2:6] += 1500 * (patient % 2)
        write_series(root / f"p{patient}" / "ct", patient, 1, volume=volume)
        scout = {"volume": voxels(1, (1, 9, 9)), "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
        write_series(root / f"p{patient}" / "scout", patient, 2, **scout)
    write_series(root / "gap", 0, 3, heights=[0, 2, 4, 8, 10, 12], volume=voxels(3, (6, 8, 8)))
    write_series(root / "burnt", 1, 3, study=2, volume=voxels(4, (2, 8, 8)), BurnedInAnnotation="YES")
    write_series(root / "stranger", 30, 1)
    write_labels(tmp_path / "labels.csv", range(11))
    return f"dicom:{root}?labels={tmp_path / 'labels.csv'}"


def test_data_tells_what_was_read_what_was_left_out_and_why(reticent, hospital, tmp_path):
    ended = reticent("data", hospital, "--left-out", "rejected.csv")
    assert ended.code == 0, ended.err
    for words in (
        "archive: binary, 3-D, inputs image (channels: 1)",
        "10 subjects, 10 records",
        "8 x 8 x 5 (10)",
        "rows of labels.csv without images: 1",
        "row 12: P010",
        "identifying attributes in the files:",
        "BurnedInAnnotation YES: 2",
        "localiser (scout)",
        "missing slices: 1, the first behind 34.0 mm",
        "no row in labels.csv",
    ):
        assert words in ended.out, words
    with open("rejected.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 + 3
    assert Path("rejected.csv").stat().st_mode & 0o077 == 0
    gap = next(row for row in rows if "missing" in row["reason"])
    assert (gap["record"], gap["patient"], gap["files"]) == (uid(0, 1, 3), "P000", "6")
    assert "rejected.csv: exists already" in reticent("data", hospital, "--left-out", "rejected.csv").err
    summary = json.loads(reticent("data", hospital, "--json").printed)
    assert len(summary["left_out"]) == 13


def test_a_dicom_tree_is_trained_on_and_predicted_in_one_command_each(reticent, hospital, small, tmp_path):
    options = [*small, "--noise-multiplier", "1", "--image-size", "8", "--window", "0,4000", "--spacing", "1"]
    ended = reticent("train", hospital, *options, "--out", "run")
    assert ended.code == 0, ended.err
    assert "Left out: 13: localiser (scout) (10); " in ended.out
    run = RunFolder.open(tmp_path / "work" / "run")
    assert run.study().cohort.window == (0.0, 4000.0)
    assert run.study().cohort.uri == hospital
    assert run.state().image_size == (8, 8, 8)
    assert "archive" not in (run.release / "privacy.json").read_text()
    again = reticent("train", "run/study.toml", "--out", "again", "--dry-run")
    assert again.code == 0, again.err
    ended = reticent("predict", "run", hospital, "--out", "predicted.csv")
    assert ended.code == 0, ended.err
    assert "warning: Left out: 13: localiser (scout) (10); " in ended.err
    with open("predicted.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 10
    ended = reticent("predict", "run", tmp_path / "archive" / "stranger")
    assert (ended.code, len(ended.printed.splitlines())) == (0, 2), ended.err


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "no labels; join a table"),
        ("?labels=gone.csv", "gone.csv: no such file"),
        ("/gap?labels=LABELS", "none of its series can be used: missing slices: 1, the first behind 34.0 mm"),
        ("?labels=LABELS&kernel=B70f", "none of its series can be used: kernel 'STANDARD' does not fit B70f (11)"),
    ],
)
def test_bad_addresses_end_with_one_line(reticent, hospital, query, message):
    folder, _, labels = hospital.partition("?labels=")
    address = folder + query.replace("LABELS", labels)
    ended = reticent("train", address, "--noise-multiplier", "1")
    assert (ended.code, message in ended.err) == (2, True), ended.err
    assert ended.err.count("error:") == 1


def test_masks_of_a_declared_spacing_are_written_on_the_grid_of_each_input(reticent, write_volumes, small, tmp_path):
    manifest = write_volumes()
    options = [*small, "--noise-multiplier", "1", "--spacing", "2", "--image-size", "8"]
    ended = reticent("train", manifest, *options, "--out", "run")
    assert ended.code == 0, ended.err
    case = manifest.parent / "images" / "p.0.nii.gz"
    ended = reticent("predict", "run", case)
    assert ended.code == 0, ended.err
    mask, image = nibabel.load("masks/p.0_mask.nii.gz"), nibabel.load(case)
    assert mask.shape == image.shape
    np.testing.assert_array_equal(mask.affine, image.affine)
    # 12 rows of 2 mm are 12 of 2 mm, of which 8 fit; what was cut off is background.
    assert not np.asarray(mask.dataobj)[:, [0, 1, 10, 11]].any()
    ended = reticent("train", manifest, *small, "--noise-multiplier", "1", "--spacing", "2")
    assert (ended.code, "--spacing cuts or pads images to --image-size, or goes with --patch-size" in ended.err) == (
        2,
        True,
    )


def test_masks_and_probabilities_of_dicom_are_written_as_dicom(reticent, hospital, small, tmp_path):
    root = hospital.split(":", 1)[1].split("?")[0]
    rows = ["PatientID,mask,split"]
    for patient in range(10):
        organ = np.zeros((8, 8, 5), np.uint8)
        organ[2:6, 2:6, 1:4] = 1
        affine = np.diag([-0.5, -0.75, 2.5, 1])
        affine[:3, 3] = 10, 20, 30
        nibabel.save(nibabel.Nifti1Image(organ, affine), tmp_path / f"m{patient}.nii.gz")
        rows.append(f"P{patient:03d},{tmp_path / f'm{patient}.nii.gz'},{'test' if patient > 7 else 'train'}")
    (tmp_path / "masks.csv").write_text("\n".join(rows) + "\n")
    options = [*small, "--noise-multiplier", "1", "--window", "0,4000", "--patch-size", "4x4x4"]
    ended = reticent("train", f"dicom:{root}?labels={tmp_path / 'masks.csv'}", *options, "--out", "segmenter")
    assert ended.code == 0, ended.err
    ended = reticent("predict", "segmenter", f"dicom:{root}?labels=none&slices=5", "--out", "seg")
    assert ended.code == 0, ended.err
    seg = highdicom.seg.segread(Path("seg") / f"{uid(3, 1, 1)}.dcm")
    assert (seg.PatientID, seg.SegmentSequence[0].SegmentLabel) == ("P003", "foreground")
    assert (Path("seg") / f"{uid(3, 1, 1)}.dcm").stat().st_mode & 0o077 == 0
    assert (
        "exists already" in reticent("predict", "segmenter", f"dicom:{root}?labels=none&slices=5", "--out", "seg").err
    )

    ended = reticent("train", hospital, *small, "--noise-multiplier", "1", "--image-size", "8", "--out", "classifier")
    assert ended.code == 0, ended.err
    ended = reticent("predict", "classifier", f"dicom:{root}?labels=none&slices=5", "--sr", "reports", "--out", "p.csv")
    assert ended.code == 0, ended.err
    with open("p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    report = highdicom.sr.srread(Path("reports") / "0001.dcm")
    (group,) = report.content.get_image_measurement_groups()
    told = {m.name.meaning: m.value for m in group.get_measurements()}
    assert told == pytest.approx({name: float(rows[0][name]) for name in told}, abs=1e-5)
    ended = reticent("predict", "classifier", tmp_path / "m0.nii.gz", "--sr", "more")
    assert (ended.code, "--sr writes DICOM for DICOM records" in ended.err) == (2, True)
    assert not Path("more").exists()


def test_markers_beside_dicom_are_trained_and_predicted_with(reticent, hospital, tmp_path):
    root = hospital.split(":", 1)[1].split("?")[0]
    rows = [f"P{k:03d},{k % 2},{'test' if k > 7 else 'train'},{'' if k == 3 else 10 + 40 * (k % 2)}" for k in range(10)]
    (tmp_path / "markers.csv").write_text("\n".join(("mrn,response,split,crp", *rows)) + "\n")
    table = ["--label", "response", "--column", "PatientID=mrn", "--marker", "crp=3,1,log,0..500"]
    options = ["--steps", "2", "--sampling-rate", "0.3", *table, "--noise-multiplier", "1", "--image-size", "8"]
    ended = reticent("train", f"dicom:{root}?labels={tmp_path / 'markers.csv'}", *options, "--out", "run")
    assert ended.code == 0, ended.err
    assert RunFolder.open(tmp_path / "work" / "run").state().inputs == {"image": 1, "markers": 1, "missing": 1}

    def predicted(*rows):
        (tmp_path / "new.csv").write_text("\n".join(("mrn,crp", *rows)) + "\n")
        ended = reticent("predict", "run", f"dicom:{root}?labels={tmp_path / 'new.csv'}&slices=5")
        assert ended.code == 0, ended.err
        return {row.pop("file"): row for row in csv.DictReader(ended.printed.splitlines())}

    first, changed = predicted("P001,50", "P004,"), predicted("P004,", "P001,5000")
    assert first.keys() == changed.keys() == {uid(1, 1, 1), uid(4, 1, 1)}
    assert first[uid(4, 1, 1)] == changed[uid(4, 1, 1)]
    assert first[uid(1, 1, 1)] != changed[uid(1, 1, 1)]
    told = ["--sr", "reports", "--out", "p.csv"]
    ended = reticent("predict", "run", f"dicom:{root}?labels={tmp_path / 'new.csv'}&slices=5", *told)
    assert ended.code == 0, ended.err
    assert len(list(Path("reports").iterdir())) == 2
    ended = reticent("predict", "run", f"dicom:{root}?labels=none&slices=5")
    assert (ended.code, "no markers; join a table with a column" in ended.err) == (2, True)
    (tmp_path / "new.csv").write_text("mrn,crp\nP001,much\n")
    ended = reticent("predict", "run", f"dicom:{root}?labels={tmp_path / 'new.csv'}")
    assert (ended.code, "new.csv, row 2: 'much' in column crp is not a number" in ended.err) == (2, True)
