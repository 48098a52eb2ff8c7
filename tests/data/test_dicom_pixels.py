import numpy as np
import pytest
from dicom_tree import SECONDARY, image, uid, write_enhanced, write_flat
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.sequence import Sequence as Items

from reticent.data import open_cohort
from reticent.data.dicom.pixels import read_frames
from reticent.errors import InputError


def decoded(path, voi=False):
    return read_frames(path, [None], voi=voi)[0]


@pytest.fixture
def write(tmp_path):
    """Writes an image with these attributes."""

    def save(pixels, **attributes):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.dcm"
        image(pixels, SOPClassUID=SECONDARY, SOPInstanceUID=uid(1), **attributes).save_as(path)
        return path

    return save


GREY = np.array([[0, 100, 1000], [2000, 3000, 4095]], np.uint16)


def test_stored_values_are_rescaled_and_signed_ones_stay_signed(write):
    np.testing.assert_array_equal(decoded(write(GREY)), GREY)
    scaled = decoded(write(GREY, RescaleSlope=2, RescaleIntercept=-1024))
    np.testing.assert_array_equal(scaled, 2.0 * GREY - 1024)
    signed = GREY.astype(np.int16) - 2000
    np.testing.assert_array_equal(decoded(write(signed)), signed)
    assert scaled.dtype == np.float32


def test_monochrome1_is_turned_over_in_the_range_of_its_bits(write):
    path = write(GREY, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(decoded(path), 4095.0 - GREY)
    rescaled = write(
        GREY, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11, RescaleSlope=2, RescaleIntercept=-10
    )
    np.testing.assert_array_equal(decoded(rescaled), 2 * 4095.0 - 10 - 2 * GREY)


def test_the_files_own_window_follows_the_standard(write):
    hounsfield = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": [40, 400], "WindowWidth": [400, 1800]}
    x = GREY.astype(float) - 1024
    linear = np.clip((x - 39.5) / 399 + 0.5, 0, 1)  # PS3.3 C.11.2.1.2.1 with y from 0 to 1
    np.testing.assert_allclose(decoded(write(GREY, **hounsfield), voi=True), linear, atol=1e-6)
    sigmoid = 1 / (1 + np.exp(-4 * (x - 40) / 400))  # C.11.2.1.3.1
    path = write(GREY, **hounsfield, VOILUTFunction="SIGMOID")
    np.testing.assert_allclose(decoded(path, voi=True), sigmoid, atol=1e-6)
    turned = write(GREY, **hounsfield, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_allclose(decoded(turned, voi=True), 1 - linear, atol=1e-6)
    with pytest.raises(InputError, match="no window of its own; drop voi=file"):
        decoded(write(GREY), voi=True)


def test_a_table_in_the_file_is_looked_up(write):
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4096, 0, 16], (np.arange(4096, dtype=np.uint16) * 7).tobytes()
    path = write(GREY, VOILUTSequence=Items([table]))
    np.testing.assert_allclose(decoded(path, voi=True), GREY * 7.0 / 65535, atol=1e-6)


def test_colour_comes_as_channels_in_fractions(write):
    colour = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    np.testing.assert_allclose(decoded(write(colour)), np.moveaxis(colour, -1, 0) / 255.0, atol=1e-6)


def test_compressed_files_give_the_pixels_of_the_plain_ones():
    plain = decoded(get_testdata_file("MR_small.dcm"))
    for name in (
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_bigendian.dcm",
    ):
        np.testing.assert_array_equal(decoded(get_testdata_file(name)), plain)
    assert plain.any()


def test_ct_small_is_in_hounsfield_units():
    path = get_testdata_file("CT_small.dcm")
    np.testing.assert_array_equal(decoded(path), dcmread(path).pixel_array.astype(np.float32) - 1024)


def test_truncated_and_strange_files_are_refused_in_one_line(write, tmp_path):
    path = write(GREY)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"0.dcm: cannot be decoded \(.*; replace the file or leave it out$"):
        decoded(path)
    with pytest.raises(InputError, match=r"^[^\n]*JPEG-lossy.dcm: cannot be decoded[^\n]*$"):
        decoded(get_testdata_file("JPEG-lossy.dcm"))


def test_frames_of_an_enhanced_file_have_their_own_rescaling_and_come_by_position(tmp_path):
    volume = np.random.default_rng(0).integers(0, 500, (5, 8, 6), np.uint16)
    write_enhanced(tmp_path / "enhanced" / "one.dcm", 1, volume)
    cohort = open_cohort(f"dicom:{tmp_path / 'enhanced'}", strict=False)
    expected = volume * (1.0 + np.arange(5)[:, None, None]) - 1024
    # Stored rows run to the back (y of LPS) and columns to the left (x of LPS): both against RAS.
    found = cohort.load(0).inputs["image"][0]
    np.testing.assert_array_equal(found, expected.transpose(2, 1, 0)[::-1, ::-1])
    assert cohort.shape(0) == (6, 8, 5)
    assert cohort.load(0).spacing == (0.5, 0.75, 2.5)


def test_radiographs_are_flat_images_of_their_own(tmp_path):
    pixels = np.arange(48, dtype=np.uint16).reshape(6, 8)
    for number in (1, 2):
        write_flat(tmp_path / "tree" / f"{number}.dcm", 1, pixels * number, number, ImagerPixelSpacing=[0.2, 0.1])
    cohort = open_cohort(f"dicom:{tmp_path / 'tree'}", strict=False)
    assert (cohort.ndim, cohort.channels, len(cohort.entries)) == (2, {"image": 1}, 2)
    np.testing.assert_array_equal(cohort.load(1).inputs["image"][0], 2.0 * pixels)
    assert (cohort.shape(0), cohort.load(0).spacing) == ((6, 8), (0.2, 0.1))


def test_enhanced_files_of_one_frame_each_are_rescaled_as_their_frames_say(tmp_path):
    volume = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    for k, pixels in enumerate(volume):
        write_enhanced(tmp_path / "ct" / f"{k}.dcm", 1, pixels[None], height=2.5 * k, number=k + 1)
    cohort = open_cohort(f"dicom:{tmp_path / 'ct'}?thickness=2-3", strict=False)
    found = cohort.load(0).inputs["image"][0]
    assert found.shape == (6, 5, 4)
    assert (found.min(), found.max()) == (-1024, volume.max() - 1024)


def test_empty_windows_and_sizes_of_zero_are_no_windows_and_no_sizes(write, tmp_path):
    with pytest.raises(InputError, match="it has no window of its own; drop voi=file"):
        decoded(write(GREY, WindowCenter=None, WindowWidth=None), voi=True)
    for name, sizes, expected in (("zero", [0, 0], None), ("given", [0.5, 0.25], (0.5, 0.25))):
        write_flat(tmp_path / name / "a.dcm", 1, GREY, PixelSpacing=sizes)
        assert open_cohort(f"dicom:{tmp_path / name}", strict=False).load(0).spacing == expected


def test_masks_of_flat_images_are_read(tmp_path):
    for patient in range(2):
        write_flat(tmp_path / "a" / f"{patient}.dcm", patient, GREY)
    Image.fromarray(np.array([[0, 255, 0], [0, 0, 255]], np.uint8)).save(tmp_path / "m.png")
    (tmp_path / "labels.csv").write_text("PatientID,mask\nP000,m.png\nP001,m.png\n")
    cohort = open_cohort(f"dicom:{tmp_path / 'a'}?labels={tmp_path / 'labels.csv'}")
    np.testing.assert_array_equal(cohort.load(0).targets["mask"], [[0, 1, 0], [0, 0, 1]])
    (tmp_path / "labels.csv").write_text("PatientID,mask\nP000,m.png\nP001,\n")
    with pytest.raises(InputError, match=r"labels.csv, row 3: no mask in column mask; add it, or give the split"):
        open_cohort(f"dicom:{tmp_path / 'a'}?labels={tmp_path / 'labels.csv'}")
