import nibabel
import numpy as np
import pytest
from dicom_tree import MR, image, uid, voxels, write_flat, write_labels, write_series
from PIL import Image, ImageDraw

from reticent.data import DecodedCache, Preprocessing, absolute_address, inspect_cohort, open_cohort
from reticent.errors import InputError


@pytest.fixture
def clinic(tmp_path):
    """Four patients with a CT each, the last with two; labels by PatientID."""
    for patient in range(4):
        write_series(tmp_path / "archive" / str(patient), patient, 1)
    write_series(tmp_path / "archive" / "again", 3, 1, study=2)
    write_labels(tmp_path / "labels.csv", range(4))
    return tmp_path


def test_labels_are_joined_by_patient_study_or_accession(clinic):
    for key, count in (("PatientID", 5), ("StudyInstanceUID", 4), ("AccessionNumber", 4)):
        table = write_labels(clinic / f"{key}.csv", range(4), key=key)
        cohort = open_cohort(f"dicom:{clinic / 'archive'}?labels={table}")
        assert (cohort.task, cohort.classes, cohort.ndim) == ("binary", ("finding", "none"), 3)
        assert [entry.subject for entry in cohort.entries] == ["P000", "P001", "P002", *["P003"] * (count - 3)]
        assert [entry.label for entry in cohort.entries] == [1, 0, 1, *[0] * (count - 3)]
        assert cohort.entries[0].attributes == {"sex": "M", "age": "60-69"}
        assert [each.reason for each in cohort.left_out] == [f"no row in {key}.csv"] * (5 - count)


def test_a_table_inside_the_folder_is_found_and_its_columns_are_named_as_in_a_manifest(clinic):
    (clinic / "archive" / "labels.csv").write_text(
        "mrn,AccessionNumber,grade,ill,split\nP000,A0001,1,1,train\nP001,A0011,2,0,train\nP002,A0021,1,0,test\n"
    )
    columns = {"PatientID": "mrn", "grade": "grade"}
    cohort = open_cohort(str(clinic / "archive"), columns=columns, labels=["ill"])
    assert [(entry.split, entry.label) for entry in cohort.entries] == [("train", 1), ("train", 0), ("test", 0)]
    assert cohort.entries[1].attributes["grade"] == "2"
    assert len(open_cohort(f"dicom:{clinic / 'archive'}?labels=none", strict=False).entries) == 5
    assert len(cohort.left_out) == 3  # two series of the patient without a row, and the table itself


def test_rows_without_images_are_told_and_a_table_of_strangers_is_refused(clinic):
    write_labels(clinic / "labels.csv", range(6))
    cohort = open_cohort(f"dicom:{clinic / 'archive'}?labels={clinic / 'labels.csv'}")
    assert cohort.remarks["rows of labels.csv without images"] == ["row 6: P004", "row 7: P005"]
    (clinic / "strange.csv").write_text("PatientID,ill\n1,0\n2,1\n")
    with pytest.raises(InputError, match="no row is of these files: PatientID is like P000 in them, like 1 in the"):
        open_cohort(f"dicom:{clinic / 'archive'}?labels={clinic / 'strange.csv'}")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,ill\na,0\n", "no column of SOPInstanceUID, .*PatientID among name, ill; say which with --column"),
        ("PatientID,ill\nP000,0\nP000,1\n", "row 3: PatientID P000 is listed already in row 2"),
        ("PatientID,ill\n,0\nP000,1\n", "row 2: the PatientID in column PatientID is empty"),
        ("PatientID,diagnosis\nP000,ok\nP001,\n", "row 3: no label in column diagnosis"),
    ],
)
def test_a_table_that_does_not_fit_is_named_with_its_row(clinic, table, message):
    (clinic / "labels.csv").write_text(table)
    with pytest.raises(InputError, match=message):
        open_cohort(f"dicom:{clinic / 'archive'}?labels={clinic / 'labels.csv'}")


def test_training_needs_labels_and_the_message_says_how(clinic):
    with pytest.raises(InputError, match=r"no labels; join a table .*: dicom:.*archive\?labels=FILE.csv"):
        open_cohort(str(clinic / "archive"))
    assert open_cohort(str(clinic / "archive"), strict=False).entries[0].split == "unlabelled"


def test_empty_and_constant_patient_ids_are_errors_with_a_remedy_that_works(tmp_path):
    for patient in range(4):
        write_series(tmp_path / "same" / str(patient), patient, 1, PatientID="ANON")
        write_series(tmp_path / "empty" / str(patient), patient, 1, PatientID="")
    labels = write_labels(tmp_path / "labels.csv", range(4), key="StudyInstanceUID")
    rows = "\n".join(f"{uid(patient, 1)},person {patient // 2}" for patient in range(4))
    (tmp_path / "people.csv").write_text(f"StudyInstanceUID,subject\n{rows}\n")
    messages = {"same": "all 4 records have the subject ANON", "empty": "the subject is empty in 4 of 4"}
    for folder, message in messages.items():
        address = f"dicom:{tmp_path / folder}?labels={labels}"
        with pytest.raises(InputError, match=f"{message}.*map them to subjects with dicom:FOLDER.subjects=FILE"):
            open_cohort(address)
        mapped = open_cohort(f"{address}&subjects={tmp_path / 'people.csv'}")
        assert [entry.subject for entry in mapped.entries] == ["person 0", "person 0", "person 1", "person 1"]


def test_a_subject_table_must_know_every_patient(clinic):
    (clinic / "people.csv").write_text("PatientID,subject\nP000,one\nP001,one\n")
    with pytest.raises(InputError, match=r"people.csv: no row for PatientID P002 \(2/"):
        open_cohort(f"dicom:{clinic / 'archive'}?labels={clinic / 'labels.csv'}&subjects={clinic / 'people.csv'}")
    (clinic / "people.csv").write_text("PatientID,person\nP000,one\n")
    with pytest.raises(InputError, match="no column subject"):
        open_cohort(f"dicom:{clinic / 'archive'}?labels={clinic / 'labels.csv'}&subjects={clinic / 'people.csv'}")


def test_one_series_of_a_study_is_chosen_by_the_declared_rule(tmp_path):
    root = tmp_path / "archive"
    write_series(root / "thick", 1, 1, volume=voxels(1, (5, 8, 10)), SeriesDescription="Chest soft", step=5.0)
    write_series(root / "thin", 1, 2, volume=voxels(2, (9, 8, 10)), SeriesDescription="Chest lung", step=1.0)
    write_series(root / "same", 1, 3, volume=voxels(3, (9, 8, 10)), SeriesDescription="Chest late", step=2.0)
    write_series(root / "later", 1, 1, study=2, volume=voxels(4, (4, 8, 10)), SeriesDescription="Chest", step=5.0)

    def chosen(query=""):
        cohort = open_cohort(f"dicom:{root}?{query}", strict=False)
        return {entry.locator.series.header.path.split("/")[0] for entry in cohort.entries}

    assert chosen() == {"thin", "later"}  # most slices, then the thinner spacing
    assert chosen("per=patient") == {"thin"}
    assert chosen("per=series") == {"thick", "thin", "same", "later"}
    assert chosen("description=soft|late") == {"same"}
    assert chosen("exclude=LUNG&per=patient") == {"same"}
    assert chosen("thickness=4-6") == {"thick", "later"}
    assert chosen("slices=5&thickness=5") == {"thick"}
    cohort = open_cohort(f"dicom:{root}?thickness=4-6", strict=False)
    assert {each.reason for each in cohort.left_out} == {f"slice thickness {t}, not 4 to 6 mm" for t in ("1.0", "2.0")}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("windw=lung", "no rule 'windw=lung'; the rules are labels, subjects, modality"),
        ("kernel=(", "kernel=(: missing"),
        ("thickness=thin", "one thickness in mm, or two as 1-2.5"),
        ("per=scan", "say study or patient or series"),
        ("slices=1", "a whole number from 2 up"),
        ("labels=gone.csv", "labels=gone.csv: no such file"),
    ],
)
def test_a_wrong_rule_is_named(clinic, query, message):
    with pytest.raises(InputError) as error:
        open_cohort(f"dicom:{clinic / 'archive'}?{query}")
    assert message in str(error.value)


def test_several_modalities_must_be_chosen_from(clinic):
    write_series(clinic / "archive" / "mr", 7, 1, SOPClassUID=MR, Modality="MR")
    write_labels(clinic / "labels.csv", range(8))
    address = f"dicom:{clinic / 'archive'}?labels={clinic / 'labels.csv'}"
    with pytest.raises(InputError, match=r"several modalities: CT \(5\), MR \(1\); choose one: dicom:.*modality=CT"):
        open_cohort(address)
    assert len(open_cohort(f"{address}&modality=ct").entries) == 5
    assert any("CT (5), MR (1)" in line for line in next(
        lines for title, lines in open_cohort(address, strict=False).remarks.items() if "modalities" in title
    ))  # fmt: skip


def test_masks_lie_in_the_geometry_of_their_series_or_are_refused(clinic):
    """The mask is drawn by value, on a file with axes and directions of its own."""
    plain = open_cohort(f"dicom:{clinic / 'archive'}", strict=False)
    volume = plain.load(0).inputs["image"][0]
    affine = np.diag([-0.5, -0.75, 2.5, 1.0])
    affine[:3, 3] = 10, 20, 30
    drawn = (volume[::-1, ::-1] > 0).astype(np.uint8)
    (clinic / "masks").mkdir()
    nibabel.save(nibabel.Nifti1Image(drawn, affine), clinic / "masks" / "good.nii.gz")
    thicker = affine + np.diag([0, 0, 0.2, 0])
    nibabel.save(nibabel.Nifti1Image(drawn, thicker), clinic / "masks" / "bad.nii.gz")
    (clinic / "masks.csv").write_text("PatientID,mask\nP000,good.nii.gz\nP001,bad.nii.gz\n")
    cohort = open_cohort(f"dicom:{clinic / 'archive'}?labels={clinic / 'masks.csv'}")
    assert cohort.task == "segmentation"
    np.testing.assert_array_equal(cohort.load(0).targets["mask"], volume > 0)
    with pytest.raises(InputError, match=r"bad.nii.gz: the mask lies up to 1 mm beside its image"):
        cohort.load(1)


def test_what_tells_of_patients_is_reported_but_not_told(clinic, tmp_path):
    write_series(clinic / "archive" / "shared", 3, 5, study=5, PatientName="Other^Person")
    write_series(clinic / "archive" / "double", 5, 1, PatientName="Doe^1", PatientBirthDate="19110101")
    write_series(clinic / "archive" / "burnt", 6, 1, BurnedInAnnotation="YES", volume=voxels(0, (3, 4, 5)))
    remarks = open_cohort(f"dicom:{clinic / 'archive'}", strict=False).remarks
    assert "PatientName: 45 of 45" in remarks["identifying attributes in the files"]
    assert len(remarks["BurnedInAnnotation YES"]) == 3
    assert remarks["PatientIDs with several names or birth dates"][0].startswith("P003: 2 (two people?")
    assert remarks["one name and birth date under several PatientIDs"][0].startswith("P001, P005 (one person?")
    assert "Doe" not in str(remarks)


def test_text_in_the_pixels_is_suspected(tmp_path):
    rng = np.random.default_rng(0)
    for number in (1, 2):
        picture = Image.fromarray(rng.integers(20, 150, (240, 320)).astype(np.uint8))
        if number == 2:
            ImageDraw.Draw(picture).text((15, 12), "DOE JOHN 1961-04-12", fill=255, font_size=14)
        write_flat(tmp_path / "us" / f"{number}.dcm", number, np.asarray(picture), Modality="US")
    cohort = open_cohort(f"dicom:{tmp_path / 'us'}", strict=False)
    assert inspect_cohort(cohort, ["unlabelled"] * 2).text_suspected == [cohort.entries[1].key]


def test_rules_and_changed_files_make_another_cache_of_decoded_images(clinic):
    address = f"dicom:{clinic / 'archive'}?labels={clinic / 'labels.csv'}"
    size = Preprocessing((4, 4, 4))
    DecodedCache(open_cohort(address), size, clinic / "cache")
    assert DecodedCache(open_cohort(address), size, clinic / "cache", build=False)[0].inputs["image"].any()
    path = next((clinic / "archive" / "0").glob("*.dcm"))
    path.touch()
    with pytest.raises(InputError, match="no decoded images"):
        DecodedCache(open_cohort(address), size, clinic / "cache", build=False)


def test_the_same_pixels_have_the_same_digest_whatever_the_header_says(tmp_path):
    for patient in (1, 2):
        write_series(tmp_path / "tree" / str(patient), patient, 1, volume=voxels(7), seed=patient)
    cohort = open_cohort(f"dicom:{tmp_path / 'tree'}", strict=False)
    assert cohort.digest(0) == cohort.digest(1)


def test_an_address_is_stored_with_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    assert absolute_address("dicom:scans?labels=l.csv&per=patient") == (
        f"dicom:{tmp_path}/scans?labels={tmp_path}/l.csv&per=patient"
    )
    assert absolute_address("scans") == str(tmp_path / "scans")
    assert absolute_address("phantom:chest") == "phantom:chest"


def test_pictures_beside_a_stray_dicom_file_stay_a_folder_of_pictures(tmp_path, save_image):
    for name in ("a/1.png", "b/2.png"):
        save_image(tmp_path / name)
    image(voxels(0, (1, 4, 4))[0], SOPInstanceUID=uid(1)).save_as(tmp_path / "b" / "stray.dcm")
    assert open_cohort(str(tmp_path), strict=False).classes == ("a", "b")


def test_no_column_of_subjects_is_ignored(clinic):
    """Else two identifiers of one person would be two subjects, and the guarantee weaker than its owner thinks."""
    table = clinic / "labels.csv"
    table.write_text("PatientID,ill,Subject\nP000,1,a\nP001,0,a\nP002,1,b\nP003,0,c\n")
    address = f"dicom:{clinic / 'archive'}?labels={table}"
    with pytest.raises(InputError, match=r"has a column Subject, but .*; add subjects=.*labels.csv to use the column"):
        open_cohort(address, labels=["ill"])
    for role in ("subject", "file"):
        with pytest.raises(InputError, match=f"--column {role}=Subject is for manifests"):
            open_cohort(address, columns={role: "Subject"}, labels=["ill"])
    cohort = open_cohort(f"{address}&subjects={table}", labels=["ill"])
    assert [entry.subject for entry in cohort.entries] == ["a", "a", "b", "c", "c"]


def test_patients_without_identifier_are_not_taken_for_one(tmp_path):
    for patient in range(3):
        write_series(tmp_path / str(patient), patient, 1, PatientID="")
    address = f"dicom:{tmp_path}?labels=none&per=patient"
    assert len(open_cohort(address, unit="record", hashed=False, strict=False).entries) == 3


def test_a_series_of_several_studies_is_left_out(tmp_path):
    """Joined, half of its slices would have the label of another study."""
    write_series(tmp_path / "a", 1, 1, volume=voxels(1))
    same = {"SeriesInstanceUID": uid(1, 1, 1), "FrameOfReferenceUID": uid(1, 1, 99)}
    write_series(tmp_path / "b", 1, 1, study=2, origin=(-10, -20, 45), **same)
    with pytest.raises(InputError, match=r"several StudyInstanceUIDs in one series \(1\)"):
        open_cohort(f"dicom:{tmp_path}?labels=none", strict=False)


@pytest.mark.parametrize("column", ["ill", "subject"])
def test_rows_of_single_slices_label_no_volume(clinic, column):
    """Each slice has a row of its own: no one of them is the volume's."""
    rows = [f"{uid(patient, 1, 1, k)},{k % 2}" for patient in range(4) for k in range(1, 7)]
    table = clinic / "slices.csv"
    table.write_text("\n".join((f"SOPInstanceUID,{column}", *rows)) + "\n")
    rule = "labels" if column == "ill" else f"labels={clinic / 'labels.csv'}&subjects"
    with pytest.raises(InputError, match=r"slices.csv: its rows are of single images, but series .* is a volume of 6;"):
        open_cohort(f"dicom:{clinic / 'archive'}?{rule}={table}")


def test_pretraining_asks_for_no_labels_and_keeps_splits_and_subjects(clinic):
    bare = open_cohort(f"dicom:{clinic / 'archive'}", pretrain=True)
    assert {(entry.split, entry.label) for entry in bare.entries} == {(None, None)}  # drawn, as a classifier's will be
    table = clinic / "splits.csv"
    table.write_text("PatientID,split,subject\nP000,train,a\nP001,unlabelled,a\nP002,test,b\nP003,val,c\n")
    cohort = open_cohort(f"dicom:{clinic / 'archive'}?labels={table}&subjects={table}", pretrain=True)
    assert (cohort.task, [entry.subject for entry in cohort.entries]) == ("restoration", ["a", "a", "b", "c", "c"])
    assert [entry.split for entry in cohort.entries] == ["train", "train", "test", "val", "val"]
