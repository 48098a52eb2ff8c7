import json

import numpy as np
import pytest

from reticent.data import open_cohort
from reticent.errors import InputError


def volume(seed=0, shape=(5, 6, 7)):
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def test_the_hippocampus_has_260_cases_with_masks_on_the_grid_of_the_image(shared):
    cohort = open_cohort(str(shared("msd_hippocampus")))
    assert (len(cohort.entries), cohort.task, cohort.ndim) == (260, "segmentation", 3)
    assert cohort.classes == ("background", "Anterior", "Posterior")
    assert cohort.entries[0].subject == "hippocampus_001"
    assert len({entry.subject for entry in cohort.entries}) == 260
    assert cohort.licence == "CC-BY-SA 4.0"
    volumes = []
    for i in range(0, 260, 26):
        record = cohort.load(i)
        assert record.inputs["image"].shape == (1, *cohort.shape(i))
        volumes.append([(record.targets["mask"] == label).sum() for label in (1, 2)])
    # Published means 1715 and 1580 voxels, standard deviations 307 and 228: ten cases lie within five standard errors.
    assert np.mean(volumes, 0) == pytest.approx([1715, 1580], abs=5 * 307 / np.sqrt(10))


def test_a_wrong_number_of_cases_in_the_description_is_no_error(make_msd):
    cohort = open_cohort(str(make_msd(*[(volume(i), np.ones((5, 6, 7), np.uint8)) for i in range(2)])))
    assert len(cohort.entries) == 2


def test_several_modalities_are_channels(make_msd):
    image = volume(shape=(5, 6, 7, 4))
    cohort = open_cohort(str(make_msd(*[(image, np.ones((5, 6, 7), np.uint8))] * 2)))
    assert cohort.channels == {"image": 4}
    np.testing.assert_array_equal(cohort.load(0).inputs["image"], np.moveaxis(image, 3, 0))


def test_a_mask_of_another_shape_or_with_unknown_labels_is_named(make_msd):
    cases = [
        (volume(0), np.ones((5, 6, 8), np.uint8)),
        (volume(1), np.full((5, 6, 7), 2, np.uint8)),
        (volume(2), np.full((5, 6, 7), 0.5, np.float32)),
    ]
    cohort = open_cohort(str(make_msd(*cases)))
    for i, message in enumerate((r"case_0.* shape \(5, 6, 8\)", "case_1.* values 2 to 2", "case_2.*not whole numbers")):
        with pytest.raises(InputError, match=message):
            cohort.load(i)


def test_nan_voxels_and_truncated_volumes_are_named(make_msd):
    broken = volume(0)
    broken[2, 3, 4] = np.nan
    folder = make_msd(*[(image, np.ones((5, 6, 7), np.uint8)) for image in (volume(1), broken, volume(2))])
    truncated = folder / "imagesTr" / "case_2.nii.gz"
    truncated.write_bytes(truncated.read_bytes()[:-200])
    cohort = open_cohort(str(folder))
    with pytest.raises(InputError, match=r"case_1.nii.gz: the image holds NaN"):
        cohort.load(1)
    with pytest.raises(InputError, match=r"case_2.nii.gz: not a readable NIfTI"):
        cohort.load(2)


def test_a_faulty_description_or_a_missing_file_is_named(make_msd):
    folder = make_msd(*[(volume(i), np.ones((5, 6, 7), np.uint8)) for i in range(2)])
    description = json.loads((folder / "dataset.json").read_text())
    faults = [
        ({"labels": ["background"]}, "not of the MSD form"),
        ({"labels": {"0": "background", "2": "organ"}}, "numbered 0, 1, 2"),
        ({"training": description["training"] * 2}, "twice"),
        (
            {"training": [{"image": "imagesTr/gone.nii.gz", "label": "labelsTr/case_0.nii.gz"}]},
            r"gone.nii.gz, which does",
        ),
    ]
    for change, message in faults:
        (folder / "dataset.json").write_text(json.dumps(description | change))
        with pytest.raises(InputError, match=message):
            open_cohort(str(folder))


def test_a_mask_beside_its_image_and_a_volume_of_one_slice_are_named(make_msd, save_volume):
    shapes = ((5, 6, 7), (5, 6, 7), (5, 6, 1))
    folder = make_msd(*[(volume(i, shape), np.ones(shape, np.uint8)) for i, shape in enumerate(shapes)])
    shifted = np.eye(4)
    shifted[2, 3] = 0.5
    save_volume(folder / "labelsTr" / "case_0.nii.gz", np.ones((5, 6, 7), np.uint8), shifted)
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = 4
    save_volume(folder / "labelsTr" / "case_1.nii.gz", np.ones((5, 6, 7), np.uint8), flipped)
    cohort = open_cohort(str(folder))
    with pytest.raises(InputError, match=r"case_0.nii.gz: the mask lies up to 0.5 mm beside its image .*; export it"):
        cohort.load(0)
    assert cohort.load(1).targets["mask"].all()  # stored the other way round, on the same grid
    with pytest.raises(InputError, match=r"case_2.nii.gz: one slice only \(5 x 6 x 1\); a volume needs two"):
        cohort.load(2)
