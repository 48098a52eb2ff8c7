import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff

from reticent.data import open_cohort, read_image, write_mask
from reticent.errors import InputError


def test_a_hippocampus_mask_comes_back_with_the_affine_and_voxels_of_the_original(shared, tmp_path):
    folder = shared("msd_hippocampus")
    image = folder / "imagesTr" / "hippocampus_001.nii.gz"
    mask = open_cohort(str(folder)).load(0).targets["mask"]
    write_mask(tmp_path / "mask.nii.gz", mask, image)
    written, original = (
        nibabel.load(tmp_path / "mask.nii.gz"),
        nibabel.load(folder / "labelsTr" / "hippocampus_001.nii.gz"),
    )
    np.testing.assert_array_equal(written.affine, nibabel.load(image).affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(original.dataobj))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL"])
def test_any_orientation_is_read_as_ras_and_written_back_as_stored(tmp_path, save_volume, codes):
    voxels = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8)
    affine = np.diag([1.0, 2.0, 3.0, 1.0]) @ inv_ornt_aff(axcodes2ornt(codes), voxels.shape)
    save_volume(tmp_path / "image.nii", voxels, affine)
    image, canonical = read_image(tmp_path / "image.nii")
    assert nibabel.aff2axcodes(canonical) == ("R", "A", "S")
    # The same point of the patient: the value at a stored voxel is found where the canonical affine puts it.
    stored = (1, 3, 2)
    where = np.linalg.solve(canonical, affine @ [*stored, 1]).round().astype(int)[:3]
    assert image[(0, *where)] == voxels[stored]
    write_mask(tmp_path / "mask.nii", image[0].astype(np.int64), tmp_path / "image.nii")
    written = nibabel.load(tmp_path / "mask.nii")
    np.testing.assert_array_equal(np.asarray(written.dataobj), voxels)
    np.testing.assert_allclose(written.affine, affine)


def test_header_shape_and_voxels_agree_in_any_orientation(tmp_path, save_volume):
    affine = inv_ornt_aff(axcodes2ornt("SAL"), (4, 5, 6))
    for i in range(2):
        save_volume(tmp_path / f"{i}.nii", np.full((4, 5, 6), i, np.int16), affine)
    (tmp_path / "m.csv").write_text("file,patient,label\n0.nii,a,0\n1.nii,b,1\n")
    cohort = open_cohort(str(tmp_path / "m.csv"))
    assert cohort.load(0).inputs["image"].shape == (1, *cohort.shape(0)) == (1, 6, 5, 4)


def test_a_mask_on_the_models_grid_is_written_on_the_images(tmp_path, save_volume):
    save_volume(tmp_path / "image.nii.gz", np.zeros((8, 6, 10), np.float32), np.diag([2.0, 2, 2, 1]))
    mask = np.zeros((4, 3, 5), np.int64)
    mask[2:] = 1
    write_mask(tmp_path / "mask.nii.gz", mask, tmp_path / "image.nii.gz")
    written = nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.kron(mask, np.ones((2, 2, 2))))
    assert written.get_data_dtype() == np.uint8


def test_the_mask_of_a_flat_image_has_its_height_and_width(tmp_path, save_image):
    pixels = save_image(tmp_path / "x.png")
    image, affine = read_image(tmp_path / "x.png")
    assert affine is None
    np.testing.assert_array_equal(image[0], pixels.astype(np.float32) / 255)
    write_mask(tmp_path / "mask.nii.gz", np.ones((3, 3), np.int64), tmp_path / "x.png")
    assert nibabel.load(tmp_path / "mask.nii.gz").shape == (9, 7)


def test_files_that_cannot_be_predicted_on_are_named(tmp_path, save_volume):
    save_volume(tmp_path / "nan.nii.gz", np.full((2, 2, 2), np.nan, np.float32))
    for name, message in (("x.txt", "not an image of a known kind"), ("gone.png", "not a readable image"),
                          ("gone.nii.gz", "not a readable NIfTI"), ("nan.nii.gz", "NaN")):  # fmt: skip
        with pytest.raises(InputError, match=f"{name}: .*{message}"):
            read_image(tmp_path / name)
