import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_tree import AXIAL, CORONAL, SAGITTAL, SECONDARY, uid, voxels, write_series
from pydicom.uid import MPEG2MPML

from reticent.data import open_cohort
from reticent.data.dicom import index
from reticent.data.dicom.pixels import read_frames
from reticent.data.dicom.reader import canonical_affine
from reticent.errors import InputError


@pytest.fixture
def tree(tmp_path):
    """Three healthy patients, and every defect planted in a series of its own."""
    root = tmp_path / "archive"
    scout = {"volume": voxels(2, (1, 9, 9)), "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    for patient in range(3):
        write_series(root / f"p{patient}" / "ct", patient, 1)
        write_series(root / f"p{patient}" / "scout", patient, 2, **scout)
    defects = root / "defects"
    write_series(defects / "gap", 10, 1, heights=[0, 2, 4, 8, 10, 12])
    write_series(defects / "double", 11, 1, heights=[0, 2, 4, 4, 6, 8])
    write_series(defects / "uneven", 12, 1, heights=[0, 2, 4, 7, 9, 11])
    write_series(defects / "one", 13, 1, volume=voxels(3, (1, 8, 10)))
    for number, plane in enumerate((AXIAL, CORONAL), start=1):
        two = {"volume": voxels(4, (2, 8, 10)), "orientation": plane, "SeriesInstanceUID": uid(14, 1, 1)}
        write_series(defects / "planes", 14, number, **two)
    write_series(defects / "derived", 15, 1, ImageType=["DERIVED", "SECONDARY", "MPR"])
    write_series(defects / "secondary", 16, 1, SOPClassUID=SECONDARY)
    write_series(defects / "named", 17, 1, SeriesDescription="Topogram 0.6")
    write_series(defects / "two people", 18, 1, SeriesInstanceUID=uid(18, 9))
    write_series(defects / "two people", 19, 1, SeriesInstanceUID=uid(18, 9))
    write_series(defects / "dose", 20, 1, Modality="RTDOSE")
    write_series(defects / "unplaced", 21, 1, ImagePositionPatient=None)
    for path in write_series(defects / "newer", 22, 1):
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = MPEG2MPML
        dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\x0a00"])
        dataset["PixelData"].VR = "OB"
        dataset.save_as(path)
    write_series(defects / "few", 23, 1, volume=voxels(6, (2, 8, 10)))
    broken = write_series(defects / "broken", 24, 1)[0]
    broken.write_bytes(broken.read_bytes()[:400])
    (defects / "notes.txt").write_text("not DICOM")
    return root


def reasons(cohort):
    return {each.details["first file"].split("/")[-2]: each.reason for each in cohort.left_out if each.details}


def test_every_planted_defect_is_left_out_with_its_reason(tree):
    cohort = open_cohort(f"dicom:{tree}", strict=False)
    assert [entry.subject for entry in cohort.entries] == ["P000", "P001", "P002", "P024"]  # its other slices are even
    found = reasons(cohort)
    for folder, reason in {
        "scout": "localiser",
        "gap": r"missing slices: 1, the first behind 34.0 mm (spacing 2 mm)",
        "double": "duplicate slices: 1 of 6",
        "uneven": "non-uniform spacing: 2 to 3 mm",
        "one": "one slice only",
        "derived": "derived image or secondary capture",
        "secondary": "derived image or secondary capture",
        "named": "localiser",
        "two people": "several PatientIDs in one series",
        "dose": "modality RTDOSE",
        "unplaced": "slices without ImagePositionPatient",
        "newer": "unsupported transfer syntax MPEG2",
        "few": "2 slices; slices=2 takes it",
    }.items():
        assert reason in found[folder], folder
    planes = [each.reason for each in cohort.left_out if "planes" in each.details["first file"]]
    assert len(planes) == 2
    assert all("mixed orientation in one series, 2 of 4 images here" in reason for reason in planes)
    assert any(each.reason == "no DICOM file" and "notes.txt" in each.details["first file"] for each in cohort.left_out)


def test_a_gap_in_the_middle_is_the_error_where_nothing_else_is_left(tmp_path):
    write_series(tmp_path / "gap", 10, 1, heights=[0, 2, 4, 8, 10, 12])
    with pytest.raises(InputError, match=r"none of its series can be used: missing slices: 1"):
        open_cohort(f"dicom:{tmp_path / 'gap'}", strict=False)


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL])
def test_volumes_come_in_canonical_orientation_whatever_their_plane(tmp_path, orientation):
    """An independent reading: the value at a place in space is the stored one of the file that covers it."""
    volume = voxels(1)
    paths = write_series(tmp_path / "ct", 1, 1, volume=volume, orientation=orientation)
    cohort = open_cohort(f"dicom:{tmp_path / 'ct'}", strict=False)
    record = cohort.load(0)
    found = record.inputs["image"][0]
    places = []
    for k, path in enumerate(paths):
        header = pydicom.dcmread(path)
        across, down = np.reshape(orientation, (2, 3))
        for r, c in ((0, 0), (3, 7), (7, 9)):
            place = np.array(header.ImagePositionPatient) + c * 0.5 * across + r * 0.75 * down
            places.append((place * (-1, -1, 1), volume[k, r, c] - 1024.0))
    corner = np.min([place for place, _ in places], 0)
    for place, value in places:
        assert found[tuple(np.rint((place - corner) / record.spacing).astype(int))] == value
    assert cohort.shape(0) == found.shape


def test_mixed_kernels_become_series_of_their_own_and_the_declared_one_is_taken(tmp_path):
    for number, kernel in enumerate(("B30f", "B70f")):
        same = {"SeriesInstanceUID": uid(1, 1), "volume": voxels(number)}
        write_series(tmp_path / "tree" / kernel, 1, number, ConvolutionKernel=kernel, **same)
    for number, kernel in enumerate(("B30f", "B70f")):
        cohort = open_cohort(f"dicom:{tmp_path / 'tree'}?kernel={kernel}", strict=False)
        assert [each.details["first file"].split("/")[0] for each in cohort.left_out] == [("B70f", "B30f")[number]]
        assert cohort.load(0).inputs["image"].sum() == (voxels(number) - 1024.0).sum()


@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "TemporalPositionIdentifier"])
def test_phases_at_the_same_places_become_series_of_their_own(tmp_path, keyword):
    for number in (1, 2):
        same = {"SeriesInstanceUID": uid(1, 1), "volume": voxels(number), keyword: number}
        write_series(tmp_path / "tree" / str(number), 1, number, **same)
    cohort = open_cohort(f"dicom:{tmp_path / 'tree'}?per=series", strict=False)
    assert [entry.key for entry in cohort.entries] == [uid(1, 1), f"{uid(1, 1)}#2"]
    for i in (0, 1):
        assert cohort.load(i).inputs["image"].sum() == (voxels(i + 1) - 1024.0).sum()


def test_copies_of_an_instance_are_read_once(tmp_path):
    write_series(tmp_path / "tree" / "a", 1, 1)
    shutil.copytree(tmp_path / "tree" / "a", tmp_path / "tree" / "b")
    cohort = open_cohort(f"dicom:{tmp_path / 'tree'}", strict=False)
    assert cohort.shape(0) == (10, 8, 6)
    assert len(cohort.remarks["further copies of an image"]) == 6
    assert cohort.remarks["copies under another PatientID"] == []


def test_a_copy_under_another_patient_id_is_told(tmp_path):
    write_series(tmp_path / "tree" / "a", 1, 1)
    write_series(tmp_path / "tree" / "b", 1, 1, PatientID="P002")
    cohort = open_cohort(f"dicom:{tmp_path / 'tree'}", strict=False)
    assert [entry.subject for entry in cohort.entries] == ["P001"]
    assert len(cohort.remarks["copies under another PatientID"]) == 6
    assert "P002, read as P001's" in cohort.remarks["copies under another PatientID"][0]


def test_an_interrupted_index_goes_on_and_only_changed_files_are_read_again(tree, monkeypatch):
    monkeypatch.setattr(index, "_BATCH", 10)
    read, plain = [], index.read_header
    monkeypatch.setattr(index, "read_header", lambda root, path: (read.append(path), plain(root, path))[1])

    def interrupt(stage, done, total):
        if done >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.index_headers(tree, interrupt)
    first = len(read)
    told = []
    found = index.index_headers(tree, lambda *progress: told.append(progress))
    assert first == 30
    assert sorted(read) == sorted(found)  # each once
    assert told[0] == ("Indexing DICOM headers", 40, len(found))
    read.clear()
    assert index.index_headers(tree) == found
    assert read == []
    paths = sorted(found)
    os.utime(tree / paths[0], (0, 0))
    (tree / paths[1]).unlink()
    assert sorted(index.index_headers(tree)) == [paths[0], *paths[2:]]
    assert read == [paths[0]]


def test_what_could_not_be_read_once_is_read_again(tmp_path, monkeypatch):
    path = write_series(tmp_path / "ct", 1, 1)[0].name
    with monkeypatch.context() as patch:
        patch.setattr(index, "read_header", lambda root, name: f"cannot be read (host is down): {name}")
        assert index.index_headers(tmp_path / "ct")[path].startswith("cannot be read")
    assert index.index_headers(tmp_path / "ct")[path].patient == "P001"


def test_a_file_changed_behind_its_old_size_and_time_is_read_again(tmp_path):
    path = write_series(tmp_path / "ct", 1, 1)[0]
    before = path.stat()
    assert index.index_headers(path.parent)[path.name].patient == "P001"
    path.write_bytes(path.read_bytes().replace(b"P001", b"X001"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert index.index_headers(path.parent)[path.name].patient == "X001"


def test_a_file_name_that_is_not_utf8_is_refused_in_one_line(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.dcm")).write_bytes(b"")
    with pytest.raises(InputError, match=r"the file name '.udcff.dcm' is not UTF-8; rename it"):
        index.index_headers(tmp_path)


def test_the_index_is_for_its_owner_alone_and_says_when_it_cannot_be_used(tree, tmp_path, monkeypatch):
    index.index_headers(tree)
    path = index.index_path(tree)
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
    path.write_bytes(b"no data base" * 1000)
    with pytest.raises(InputError, match=r"cannot be used \(.*\); delete it"):
        index.index_headers(tree)
    monkeypatch.setenv("RETICENT_CACHE", str(tmp_path / "archive" / "defects" / "notes.txt"))
    with pytest.raises(InputError, match="name another folder in"):
        index.index_headers(tree)


PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"


def test_pydicoms_own_tree_is_read_and_every_file_accounted_for():
    cohort = open_cohort(f"dicom:{PYDICOM}?slices=2&derived=keep&per=series", unit="record", strict=False)
    assert all("\n" not in each.reason for each in cohort.left_out)
    for i, entry in enumerate(cohort.entries):
        if entry.locator.series.header.samples == 3:
            assert cohort.load(i).inputs["image"].shape == (3, *cohort.shape(i))
    left_out = sum(int(each.details["files"]) for each in cohort.left_out)
    copies = len(cohort.remarks["further copies of an image"])
    read = sum(len(entry.locator.series.files) for entry in cohort.entries)
    assert read >= 25
    assert left_out + copies + read == len(index.index_headers(PYDICOM))


def test_each_of_pydicoms_own_files_is_decoded_or_refused_in_one_line():
    decoded, refused = 0, set()
    for path, header in index.index_headers(PYDICOM).items():
        if isinstance(header, str):
            assert "\n" not in header
            continue
        frames = list(range(min(header.frames, 2))) if header.frames > 1 else [None]
        try:
            images = read_frames(PYDICOM / path, frames, voi=False)
        except InputError as error:
            refused.add(path)
            message = str(error)
            assert message.count("\n") == 0, message
        else:
            decoded += 1
            assert all(image.shape[-2:] == (header.rows, header.columns) for image in images)
            assert all(np.isfinite(image).all() for image in images)
    assert decoded >= 85
    # Those whose pixels are broken on purpose.
    assert refused == {"JPEG-lossy.dcm", "JPEG2000-embedded-sequence-delimiter.dcm", "MR_truncated.dcm"}


def test_a_real_series_lies_where_nibabel_says():
    """A head of 5 slices, by nibabel's own reading of each file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls itself experimental
        from nibabel.nicom.dicomwrappers import wrapper_from_file
    folder = PYDICOM / "dicomdirtests" / "98892001" / "CT5N"
    cohort = open_cohort(f"dicom:{folder}", strict=False)
    found, series = cohort.load(0).inputs["image"][0], cohort.entries[0].locator.series
    to_index = np.linalg.inv(canonical_affine(series))
    for path in folder.iterdir():
        slice_ = wrapper_from_file(path)
        values = slice_.get_data()
        for row, column in ((0, 0), (3, 12), (15, 15)):
            place = (slice_.affine @ (row, column, 0, 1)) * (-1, -1, 1, 1)  # nibabel's is in LPS
            assert found[tuple(np.rint(to_index @ place).astype(int)[:3])] == values[row, column]


def test_a_missing_decoder_is_named_with_its_package(tmp_path, monkeypatch):
    for path in write_series(tmp_path / "ct", 1, 1):
        dataset = pydicom.dcmread(path)
        dataset.compress(pydicom.uid.RLELossless)
        dataset.save_as(path)
    assert len(open_cohort(f"dicom:{tmp_path / 'ct'}", strict=False).entries) == 1
    monkeypatch.setattr(type(pydicom.pixels.get_decoder(pydicom.uid.RLELossless)), "is_available", False)
    with pytest.raises(InputError, match="syntax RLE Lossless; a decoder is missing: pip install pylibjpeg-libjpeg"):
        open_cohort(f"dicom:{tmp_path / 'ct'}", strict=False)
