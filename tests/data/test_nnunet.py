import json

import numpy as np
import pytest
from PIL import Image

from reticent.data import open_cohort
from reticent.errors import InputError

V2 = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"tumour": 1, "background": 0}, "file_ending": ".nii.gz"}


@pytest.fixture
def write(tmp_path, save_volume):
    """Writes a dataset of three training cases and two test cases of two channels each."""

    def dataset(description=V2, test_masks=()):
        root = tmp_path / "Dataset001_Toy"
        for part, cases in (("Tr", ("a.1", "b_2", "c")), ("Ts", ("t1", "t2"))):
            for case in cases:
                for channel in (0, 1):
                    voxels = np.full((4, 5, 6), 10 * len(case) + channel, np.float32)
                    save_volume(root / f"images{part}" / f"{case}_{channel:04d}.nii.gz", voxels)
                if part == "Tr" or case in test_masks:
                    save_volume(root / f"labels{part}" / f"{case}.nii.gz", np.ones((4, 5, 6), np.uint8))
        (root / "dataset.json").write_text(json.dumps(description))
        return root

    return dataset


def test_cases_have_their_files_as_channels_and_the_test_cases_are_left_out(write):
    cohort = open_cohort(str(write()))
    assert (cohort.task, cohort.channels, cohort.classes) == ("segmentation", {"image": 2}, ("background", "tumour"))
    assert [(entry.subject, entry.split) for entry in cohort.entries] == [("a.1", None), ("b_2", None), ("c", None)]
    record = cohort.load(2)
    np.testing.assert_array_equal(record.inputs["image"][:, 0, 0, 0], [10, 11])
    assert record.targets["mask"].all()
    assert (record.spacing, cohort.shape(2)) == ((1, 1, 1), (4, 5, 6))
    assert [each.key for each in cohort.left_out] == ["imagesTs/t1", "imagesTs/t2"]
    assert len({cohort.digest(i) for i in range(2)}) == 1  # a.1 and b_2 have the same voxels
    assert cohort.digest(2) != cohort.digest(0)


def test_masks_of_test_cases_make_a_test_split(write):
    cohort = open_cohort(str(write(test_masks=("t2",))))
    assert [(entry.subject, entry.split) for entry in cohort.entries][3:] == [("t2", "test")]
    assert [each.key for each in cohort.left_out] == ["imagesTs/t1"]


def test_the_first_versions_description_is_read_too(write):
    first = {"modality": {"0": "T1", "1": "T2"}, "labels": {"0": "background", "1": "tumour"}, "training": []}
    assert open_cohort(str(write(first))).classes == ("background", "tumour")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": {"background": 0, "whole": [1, 2]}}, "labels by region, or to be ignored, are not read"),
        ({"labels": {"background": 0, "tumour": 1, "ignore": 2}}, "to be ignored"),
        ({"labels": {"background": 0, "tumour": 2}}, r"labels are numbered \[0, 2\]"),
        ({"channel_names": {"0": "T1"}}, r"a.1_0000.nii.gz: channels 0, 1, but dataset.json names 1"),
    ],
)
def test_a_description_that_does_not_fit_is_named(write, change, message):
    with pytest.raises(InputError, match=message):
        open_cohort(str(write(V2 | change)))


def test_a_missing_mask_and_channels_on_other_grids_are_named(write, save_volume):
    root = write()
    save_volume(root / "imagesTr" / "c_0001.nii.gz", np.zeros((4, 5, 6), np.float32), np.diag([2.0, 1, 1, 1]))
    with pytest.raises(InputError, match=r"c_0001.nii.gz: lies on another grid than c_0000.nii.gz"):
        open_cohort(str(root)).load(2)
    (root / "labelsTr" / "b_2.nii.gz").unlink()
    with pytest.raises(InputError, match="labelsTr: no mask of b_2"):
        open_cohort(str(root))


def test_the_folder_above_names_its_data_sets(write):
    with pytest.raises(InputError, match=r"holds data sets \(as Dataset001_Toy\); name one of these folders"):
        open_cohort(str(write().parent))


def test_a_channel_that_is_missing_between_others_is_not_taken_for_the_next(write):
    root = write()
    (root / "imagesTr" / "c_0001.nii.gz").rename(root / "imagesTr" / "c_0002.nii.gz")
    with pytest.raises(InputError, match=r"c_0000.nii.gz: channels 0, 2, but dataset.json names 2 \(from 0\)"):
        open_cohort(str(root))


def test_masks_that_are_pictures_keep_their_label_numbers(tmp_path):
    """A mask with the label 2 alone is no mask of label 1."""
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    stored = np.zeros((4, 5), np.uint8)
    stored[1:3] = 2
    Image.fromarray(stored * 100).save(tmp_path / "imagesTr" / "a_0000.png")
    Image.fromarray(stored).save(tmp_path / "labelsTr" / "a.png")
    labels = {"background": 0, "liver": 1, "tumour": 2}
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}, "labels": labels}))
    np.testing.assert_array_equal(open_cohort(str(tmp_path), strict=False).load(0).targets["mask"], stored)


def test_a_table_says_which_cases_are_of_one_patient(write):
    root = write()
    assumed = open_cohort(str(root))
    assert "taken for another patient" in assumed.subjects_assumed
    (root / "subjects.csv").write_text("case,subject\na.1,Ann\nb_2,Ann\nc,Bob\n")
    told = open_cohort(str(root))
    assert [entry.subject for entry in told.entries] == ["Ann", "Ann", "Bob"]
    assert told.subjects_assumed is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("case,patient\na.1,Ann\n", "no column subject"),
        ("case,subject\na.1,Ann\nb_2,Ann\n", "no row for case c"),
        ("case,subject\na.1,Ann\na.1,Bob\n", "row 3: case a.1 is listed already"),
        ("case,subject\na.1,\n", "row 2: the subject is empty"),
    ],
)
def test_wrong_tables_of_cases_are_told_with_their_row(write, table, message):
    root = write()
    (root / "subjects.csv").write_text(table)
    with pytest.raises(InputError, match=message):
        open_cohort(str(root))
