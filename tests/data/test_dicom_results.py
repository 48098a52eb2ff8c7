"""Results as DICOM, read back by highdicom: each slice's mask belongs to the slice it was drawn on."""

import highdicom
import numpy as np
import pytest
from dicom_tree import AXIAL, CORONAL, DX, SAGITTAL, uid, voxels, write_enhanced, write_flat, write_series
from pydicom import dcmread

from reticent.data import open_cohort, segmentation, structured_report
from reticent.errors import InputError

LABELS = ("background", "liver", "a tumour with quite a long name")


def drawn(root, tmp_path):
    """The one record's mask by thresholds on its decoded values, written and read again."""
    cohort = open_cohort(f"dicom:{root}?labels=none&derived=keep", unit="record", strict=False, hashed=False)
    (entry,) = cohort.entries
    values = cohort.load(0).inputs["image"][0]
    mask = (values > values.mean()).astype(int) + (values > np.quantile(values, 0.9))
    segmentation(root, entry.locator.series, mask, LABELS, "reticent run-1")(tmp_path / "seg.dcm")
    return mask, highdicom.seg.segread(tmp_path / "seg.dcm")


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL])
@pytest.mark.parametrize("step", [2.5, -2.5])
def test_each_slices_mask_is_the_threshold_of_its_own_pixels(tmp_path, orientation, step):
    paths = write_series(tmp_path / "ct", 1, 1, orientation=orientation, step=step, SliceThickness=2.5)
    mask, seg = drawn(tmp_path / "ct", tmp_path)
    everything = np.stack([dcmread(path).pixel_array.astype(float) - 1024 for path in paths])
    for path in paths:
        source = dcmread(path)
        pixels = source.pixel_array.astype(float) - 1024
        found = seg.get_pixels_by_source_instance([source.SOPInstanceUID], ignore_spatial_locations=True)[0]
        np.testing.assert_array_equal(
            found[..., 0], (pixels > everything.mean()) & (pixels <= np.quantile(everything, 0.9))
        )
        np.testing.assert_array_equal(found[..., 1], pixels > np.quantile(everything, 0.9))
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == list(LABELS[1:])
    assert (seg.PatientID, str(seg.StudyInstanceUID)) == ("P001", dcmread(paths[0]).StudyInstanceUID)
    assert mask.max() == 2


def test_frames_of_one_file_keep_their_places(tmp_path):
    volume = voxels(5, (4, 8, 10))
    path = tmp_path / "ct" / "enhanced.dcm"
    write_enhanced(path, 1, volume)
    source = dcmread(path)
    source.FrameOfReferenceUID = uid(1, 99)
    source.save_as(path)
    mask, seg = drawn(tmp_path / "ct", tmp_path)
    frames = list(range(1, 5))
    found = seg.get_pixels_by_source_frame(
        source.SOPInstanceUID, frames, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    stored = source.pixel_array
    slopes = [int(f.PixelValueTransformationSequence[0].RescaleSlope) for f in source.PerFrameFunctionalGroupsSequence]
    values = np.stack([frame * slope - 1024.0 for frame, slope in zip(stored, slopes, strict=True)])
    np.testing.assert_array_equal(found[..., 1], values > np.quantile(values, 0.9))
    assert mask.any()


def test_an_empty_mask_is_a_segmentation_too(tmp_path):
    write_series(tmp_path / "ct", 1, 1)
    cohort = open_cohort(f"dicom:{tmp_path / 'ct'}?labels=none", unit="record", strict=False, hashed=False)
    series, shape = cohort.entries[0].locator.series, cohort.shape(0)
    segmentation(tmp_path / "ct", series, np.zeros(shape, int), LABELS, "m")(tmp_path / "seg.dcm")
    assert not highdicom.seg.segread(tmp_path / "seg.dcm").pixel_array.any()


def test_a_report_holds_every_number_and_refers_to_every_image(tmp_path):
    paths = write_series(tmp_path / "ct", 1, 1)
    cohort = open_cohort(f"dicom:{tmp_path / 'ct'}?labels=none", unit="record", strict=False, hashed=False)
    series = cohort.entries[0].locator.series
    structured_report(tmp_path / "ct", series, {"well": 0.25, "ill": 0.75}, "reticent run-1")(tmp_path / "sr.dcm")
    report = highdicom.sr.srread(tmp_path / "sr.dcm")
    (group,) = report.content.get_image_measurement_groups()
    assert {m.name.meaning: m.value for m in group.get_measurements()} == {"well": 0.25, "ill": 0.75}
    referred = {image.referenced_sop_instance_uid for image in group.source_images}
    assert referred == {dcmread(path).SOPInstanceUID for path in paths}
    assert report.PatientID == "P001"


def test_the_mask_of_a_flat_image_lies_on_its_pixels(tmp_path):
    pixels = np.random.default_rng(0).permutation(64).astype(np.uint16).reshape(8, 8)
    write_flat(tmp_path / "dx" / "a.dcm", 1, pixels, SOPClassUID=DX)
    _, seg = drawn(tmp_path / "dx", tmp_path)
    np.testing.assert_array_equal(seg.pixel_array[-1], pixels > np.quantile(pixels, 0.9))


def test_volumes_without_a_frame_of_reference_are_refused_in_one_line(tmp_path):
    write_series(tmp_path / "ct", 1, 1, FrameOfReferenceUID=None)
    with pytest.raises(InputError, match=r"lack what DICOM results must refer to.*Frame Of Reference"):
        drawn(tmp_path / "ct", tmp_path)
    assert not (tmp_path / "seg.dcm").exists()
