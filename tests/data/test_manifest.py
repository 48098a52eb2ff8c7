from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reticent.data import open_cohort
from reticent.errors import InputError


def test_the_kermany_manifest_opens_without_any_mapping(shared):
    cohort = open_cohort(str(shared("kermany_cxr/manifest.csv")))
    assert (cohort.task, cohort.classes, cohort.name) == ("binary", ("0", "1"), "kermany_cxr")
    assert len({entry.subject for entry in cohort.entries}) == 1006
    assert Counter(entry.split for entry in cohort.entries) == {"train": 903, "val": 135, "test": 263}
    assert {value for entry in cohort.entries for value in entry.attributes.values()} == {"normal", "bacteria", "virus"}
    record = cohort.load(0)
    assert record.inputs["image"].shape == (3, 224, 224)
    assert (record.inputs["image"][0] == record.inputs["image"][1]).all()
    assert record.subject == "IM-0009"


def test_the_busi_manifest_classifies_by_class_and_segments_by_its_masks_folder(shared):
    path = str(shared("busi/manifest.csv"))
    classes = open_cohort(path, unit="record")
    assert classes.classes == ("benign", "malignant", "normal")
    assert Counter(entry.label for entry in classes.entries) == {0: 437, 1: 210, 2: 133}
    masks = open_cohort(path, unit="record", columns={"mask": "file"})
    assert (masks.task, masks.classes) == ("segmentation", ("background", "foreground"))
    area = pd.read_csv(path)["lesion_area_fraction"]
    for i in (0, 440, 779):
        assert masks.load(i).targets["mask"].mean() == pytest.approx(area[i], abs=1e-3)
    with pytest.raises(InputError, match="`--unit record`"):
        open_cohort(path)


def test_the_hannover_table_opens_with_its_upstream_column_names(shared):
    cohort = open_cohort(
        str(shared("hannover_covid_cxr/data.csv")), columns={"file": "image_id", "label": "projection"}
    )
    assert cohort.classes == ("ap", "pa")
    counts = Counter(entry.subject for entry in cohort.entries)
    assert (len(counts), min(counts.values()), max(counts.values())) == (71, 1, 22)
    assert {entry.attributes.get("sex") for entry in cohort.entries} == {"f", "m"}


def test_the_label_is_the_only_binary_column_and_else_must_be_named(make_manifest):
    path = make_manifest("file,patient,edema,view", "0.png,a,0,x", "1.png,b,1,y")
    assert open_cohort(str(path)).classes == ("0", "1")
    path = make_manifest("file,patient,edema,fracture,view", "0.png,a,0,1,x", "1.png,b,1,0,y")
    with pytest.raises(InputError, match=r"Say `--label NAME`; candidates: edema, fracture"):
        open_cohort(str(path))
    assert open_cohort(str(path), labels=["view"]).classes == ("x", "y")
    assert open_cohort(str(path), columns={"label": "fracture"}).entries[0].label == 1


def test_several_labels_make_a_multi_label_task(make_manifest):
    path = make_manifest("file,patient,edema,fracture", "0.png,a,0,1", "1.png,b,1,0", "2.png,c,1,1")
    cohort = open_cohort(str(path), labels=["fracture", "edema"])
    assert (cohort.task, cohort.classes) == ("multi-label", ("fracture", "edema"))
    assert [entry.label for entry in cohort.entries] == [(1, 0), (0, 1), (1, 1)]
    label = cohort.load(0).targets["label"]
    assert (label.dtype, label.tolist()) == (np.float32, [1, 0])


def test_integer_classes_sort_by_value_and_names_by_alphabet(make_manifest):
    path = make_manifest("file,patient,grade", "0.png,a,10", "1.png,b,2", "2.png,c,2.0")
    assert open_cohort(str(path), labels=["grade"]).classes == ("2", "10")


def test_subjects_are_texts_without_surrounding_space_and_keep_leading_zeros(make_manifest):
    path = make_manifest("file,patient,label", "0.png,007,0", "1.png, 007 ,1", "2.png,7,1")
    assert [entry.subject for entry in open_cohort(str(path)).entries] == ["007", "007", "7"]


def test_a_parquet_manifest_equals_its_csv_twin(make_manifest):
    path = make_manifest("file,patient,label,sex", "0.png,12,0,f", "1.png,13,1,m", "2.png,,,f")
    table = pd.read_csv(path)
    table["split"] = ["train", "train", "unlabelled"]
    table["patient"] = table["patient"].fillna(14)
    table.to_csv(path, index=False)
    table.to_parquet(path.with_suffix(".parquet"))
    parquet = open_cohort(str(path.with_suffix(".parquet")))
    assert [entry.subject for entry in parquet.entries] == ["12", "13", "14"]
    assert [entry.label for entry in parquet.entries] == [0, 1, None]


def test_attributes_are_columns_of_few_values_and_age_by_decades(make_manifest):
    rows = [f"{i}.png,p{i},{i % 2},{'fm'[i % 2]},{20 + i},{i}" for i in range(25)]
    path = make_manifest("file,patient,label,Geschlecht,age,serial", *rows)
    entries = open_cohort(str(path), columns={"sex": "Geschlecht"}).entries
    assert entries[3].attributes == {"sex": "m", "age": "20-29"}
    assert entries[12].attributes == {"sex": "f", "age": "30-39"}


def test_a_missing_attribute_is_absent(make_manifest):
    path = make_manifest("file,patient,label,sex,age", "0.png,a,0,f,", "1.png,b,1,,61")
    assert [dict(entry.attributes) for entry in open_cohort(str(path)).entries] == [{"sex": "f"}, {"age": "60-69"}]


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("file,patient,label", ["0.png,a,0", "gone.png,b,1"], r"row 3: no file .*gone.png"),
        ("file,patient,label", ["0.png,a,0", "1.png,b,1", "0.png,c,1"], r"row 4: 0.png is listed already in row 2"),
        ("file,patient,label", ["0.png,a,0", "1.png,b,1", "2.png,c,x"], r"row 4: the label 'x' .* not a number"),
        ("file,patient,label", ["0.png,a,no", "1.png,b,no", "2.png,c,1"], r"row 4: the label '1' .* a number"),
        ("file,patient,label", ["0.png,a,0", "1.png,b,0.5"], r"row 3: the label '0.5' .* is no class"),
        ("file,patient,label", ["0.png,a,0", "1.png,b,"], r"row 3: no label"),
        ("file,patient,label", ["0.png,a,1", "1.png,b,1"], r"one class only \(1\)"),
        ("file,patient,label", ["0.png,a,0", "1.png,,1"], r"subject is empty in 1 of 2 records, first 1.png"),
        ("file,patient,label", ["0.png,,0", "1.png,,1"], r"subject is empty in 2 of 2"),
        ("file,patient,label", ["0.png,a,0", "1.png,a,1"], r"all 2 records have the subject a"),
        ("file,label", ["0.png,0", "1.png,1"], r"no subject \(patient\) identifiers"),
        ("file,patient,label,split", ["0.png,a,0,train", "1.png,a,1,test", "2.png,b,1,train"],
         r"subject a is in the splits test and train"),
        ("file,patient,label,split", ["0.png,a,0,train", "1.png,b,1,holdout"], r"row 3: unknown split 'holdout'"),
        ("file,patient,label,split", ["0.png,a,0,val", "1.png,b,1,test"], r"train is empty \(.* test, val\)"),
        ("file,patient,patient_id,label", ["0.png,a,x,0", "1.png,b,y,1"], r"patient and patient_id may each be"),
        ("picture,patient,label", ["0.png,a,0", "1.png,b,1"], r"no file column among picture, patient, label"),
        ("file,patient,label", [], "no rows"),
    ],
)  # fmt: skip
def test_a_faulty_manifest_is_refused_with_its_row(make_manifest, header, rows, message):
    path = make_manifest(header, *rows)
    with pytest.raises(InputError, match=message) as caught:
        open_cohort(str(path))
    assert len(str(caught.value).splitlines()) <= 2


def test_a_non_numeric_or_missing_multi_label_is_refused_with_its_row(make_manifest):
    for value, message in (("maybe", "row 3: the label 'maybe' in column y is non-numeric"), ("", "row 3: no label")):
        path = make_manifest("file,patient,x,y", "0.png,a,0,1", f"1.png,b,1,{value}")
        with pytest.raises(InputError, match=message):
            open_cohort(str(path), labels=["x", "y"])


def test_a_mistyped_role_and_a_label_that_tells_patients_apart_are_refused(make_manifest):
    path = str(make_manifest("file,patient,label", "0.png,a,0", "1.png,b,1"))
    with pytest.raises(InputError, match="did you mean subject"):
        open_cohort(path, columns={"sbject": "patient"})
    with pytest.raises(InputError, match="column patient cannot be the label"):
        open_cohort(path, labels=["patient"])
    with pytest.raises(InputError, match="--label label is named twice"):
        open_cohort(path, labels=["label", "label"])


def test_more_than_a_hundred_classes_look_like_identifiers(make_manifest):
    path = make_manifest("file,patient,label", *(f"{k}.png,p{k},name {k}" for k in range(101)))
    with pytest.raises(InputError, match="101 classes; their names become public"):
        open_cohort(str(path))


@pytest.mark.parametrize("separator", [";", "\t"])
def test_semicolons_and_tabs_separate_too(make_manifest, separator):
    path = make_manifest("file,patient,label", "0.png,a,0", "1.png,b,1")
    path.write_text(path.read_text().replace(",", separator))
    assert [entry.subject for entry in open_cohort(str(path)).entries] == ["a", "b"]


def test_text_that_is_not_utf_8_is_said(make_manifest):
    path = make_manifest("file,patient,label", "0.png,a,0", "1.png,b,1")
    path.write_bytes(path.read_bytes().replace(b",a,", b",M\xfcller,"))
    with pytest.raises(InputError, match="save it as CSV in UTF-8"):
        open_cohort(str(path))


def test_a_mapping_to_an_absent_column_lists_the_columns(make_manifest):
    path = make_manifest("file,patient,label", "0.png,a,0", "1.png,b,1")
    with pytest.raises(InputError, match="no column 'pid'; the columns are file, patient, label"):
        open_cohort(str(path), columns={"subject": "pid"})


def test_a_mask_of_another_shape_or_with_several_labels_is_named(make_manifest, tmp_path, save_image):
    path = make_manifest("file,patient,mask", "0.png,a,0.png", "1.png,b,1.png", "2.png,c,2.png")
    good = np.zeros((9, 7), np.uint8)
    good[2:4] = 255
    (tmp_path / "masks").mkdir()
    for i, mask in enumerate((good, good[:5], good + np.eye(9, 7, dtype=np.uint8))):
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
    cohort = open_cohort(str(path))
    np.testing.assert_array_equal(cohort.load(0).targets["mask"], good > 0)
    with pytest.raises(InputError, match=r"1.png: the mask has shape \(5, 7\), the image \(9, 7\)"):
        cohort.load(1)
    with pytest.raises(InputError, match=r"2.png: the mask holds \d values"):
        cohort.load(2)


def test_a_missing_mask_is_refused_with_its_row_unless_unlabelled(make_manifest):
    path = make_manifest("file,patient,mask,split", "0.png,a,,train", "1.png,b,1.png,train")
    with pytest.raises(InputError, match="row 2: no mask in column mask"):
        open_cohort(str(path))
    path = make_manifest("file,patient,mask,split", "0.png,a,,unlabelled", "1.png,b,gone.png,train")
    with pytest.raises(InputError, match=r"row 3: no mask .*gone.png"):
        open_cohort(str(path))


def test_volumes_can_be_listed_in_a_manifest(tmp_path, save_volume):
    for i in range(2):
        save_volume(tmp_path / f"{i}.nii.gz", np.full((3, 4, 5), i, np.int16))
    (tmp_path / "m.csv").write_text("file,patient,label\n0.nii.gz,a,0\n1.nii.gz,b,1\n")
    cohort = open_cohort(str(tmp_path / "m.csv"))
    assert (cohort.ndim, cohort.shape(1), cohort.load(1).inputs["image"].shape) == (3, (3, 4, 5), (1, 3, 4, 5))
