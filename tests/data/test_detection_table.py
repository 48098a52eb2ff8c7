"""The table beside boxes: subjects, splits and attributes of images, joined by name."""

import pytest
from detection_samples import write_coco_file, write_oktoberfest, write_voc_folder

from reticent.data import open_cohort
from reticent.errors import InputError


@pytest.fixture
def cells(tmp_path):
    """Writes a table beside four images of two patients, p0_0 to p1_3; the address of both."""
    write_voc_folder(tmp_path / "v", {f"p{k // 2}_{k}": [("cell", 5, 5, 20, 20)] for k in range(4)})

    def write(*rows, rules=""):
        (tmp_path / "who.csv").write_text("\n".join(rows) + "\n")
        return f"boxes:{tmp_path / 'v'}?table={tmp_path / 'who.csv'}{rules}"

    return write


ROWS = ["file,patient,split,sex,age", "p0_0.png,0,train,f,67", "p0_1,0,train,f,68", "JPEGImages/p1_2.png,1,test,,51"]


def test_a_table_has_what_a_manifest_has(cells):
    cohort = open_cohort(cells(*ROWS, "p1_3.png,1,test,m,51"))
    assert [entry.subject for entry in cohort.entries] == ["0", "0", "1", "1"]
    assert [entry.split for entry in cohort.entries] == ["train", "train", "test", "test"]
    assert [dict(entry.attributes) for entry in cohort.entries] == [
        {"sex": "f", "age": "60-69"}, {"sex": "f", "age": "60-69"}, {"age": "50-59"}, {"sex": "m", "age": "50-59"}
    ]  # fmt: skip
    named = open_cohort(cells("image;who;ward;subject", "p0_0;a;x;1", "p0_1;a;x;2", "p1_2;b;y;3", "p1_3;b;y;4"),
                        columns={"subject": "who", "site": "ward"})  # fmt: skip
    assert [entry.subject for entry in named.entries] == ["a", "a", "b", "b"]
    assert named.entries[0].attributes == {"site": "x", "subject": "1"}


def test_an_image_without_row_and_a_row_without_image_are_told(cells):
    address = cells(*ROWS, "p9_9.png,9,train,m,20")
    with pytest.raises(InputError, match=r"who.csv: no row for 1 of 4 images, first JPEGImages/p1_3.png; add their"):
        open_cohort(address)
    with pytest.raises(InputError, match=r"the subject is empty in 1 of 4 .*; fill it in, give each image a row with"):
        open_cohort(address, strict=False)
    cohort = open_cohort(address, strict=False, unit="record")
    assert cohort.remarks["images without a row in who.csv"] == ["JPEGImages/p1_3.png"]
    assert cohort.remarks["rows of who.csv without images"] == ["row 5: p9_9.png"]
    assert (cohort.entries[3].split, cohort.entries[3].attributes) == (None, {})
    empty = cells(*ROWS, "p1_3.png,,test,m,20")
    with pytest.raises(InputError, match=r"the subject is empty in 1 of 4 records, first JPEGImages/p1_3.png; fill it"):
        open_cohort(empty)


@pytest.mark.parametrize(
    ("rows", "rules", "message"),
    [
        (["file,patient", "x.png,1", "y.png,2"], "", r"no row names an image of the cohort, as JPEG.*0.png does"),
        ([*ROWS, "p0_0,1,test,f,1"], "", r"row 5: p0_0 is listed already in row 2; remove one"),
        ([*ROWS, ",1,test,f,1"], "", "row 5: names no image"),
        ([*ROWS, "p1_3.png,1,later,f,1"], "", r"row 5: unknown split 'later' in column split"),
        ([*ROWS, "p1_3.png,1,train,f,1"], "", "subject 1 is in the splits test and train"),
        ([*ROWS, "p1_3.png,1,test,f,1"], "&test-from=2018-05-12", r"a column of .*who.csv or from test-from; say one"),
        ([*ROWS, "p1_3.png,1,test,f,1"], "&subject-pattern=(p.)", "or from subject-pattern; say one of the two"),
        (["name,patient", "p0_0,1"], "", "no file column among name, patient; say which"),
    ],
)  # fmt: skip
def test_what_does_not_fit_names_table_and_row(cells, rows, rules, message):
    with pytest.raises(InputError, match=message):
        open_cohort(cells(*rows, rules=rules))


def test_columns_are_of_a_table_and_none_is_the_label(cells):
    address = cells(*ROWS, "p1_3.png,1,test,f,1")
    with pytest.raises(InputError, match=r"who.csv: --column label=sex: the boxes are what is learned"):
        open_cohort(address, columns={"label": "sex"})
    with pytest.raises(InputError, match=r"--column names columns of a table; say boxes:.*v\?table=FILE.csv"):
        open_cohort(address.partition("?")[0], columns={"subject": "patient"})


def test_a_name_of_two_images_is_not_guessed(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        write_coco_file(tmp_path / split / "_annotations.coco.json", {"1.png": [("cell", 5, 6, 10, 8)]})
    table = tmp_path / "who.csv"
    table.write_text("file,subject\n1.png,a\n")
    with pytest.raises(InputError, match=r"row 2: 1.png is the name of 2 images; write their paths, as test/images/1"):
        open_cohort(f"boxes:{tmp_path}?table={table}")
    table.write_text("file,subject\ntrain/images/1.png,a\ntest/images/1.png,b\n")
    cohort = open_cohort(f"boxes:{tmp_path}?table={table}")
    assert {(entry.subject, entry.split) for entry in cohort.entries} == {("a", "train"), ("b", "test")}


def test_the_authors_split_of_the_oktoberfest_set_is_a_table_by_clip(tmp_path):
    """Whole clips, and the clip stays the subject; a frame in another split than its clip is refused."""
    trays = write_oktoberfest(tmp_path / "trays", clips=10)
    names = sorted({path.name for path in trays.glob("*/*.jpg")})
    clips = sorted({name.partition("_")[0] for name in names})
    split = {clip: "test" if k == 3 else "val" if k == 7 else "train" for k, clip in enumerate(clips)}
    table = tmp_path / "split.csv"
    rows = [f"{name},{split[name.partition('_')[0]]}" for name in names]
    table.write_text("\n".join(["file,split", *rows]) + "\n")
    cohort = open_cohort(f"boxes:{trays}?table={table}")
    assert len(cohort.entries) == 30
    assert {(entry.subject, entry.split) for entry in cohort.entries} == set(split.items())
    table.write_text("\n".join(["file,split", *rows[:-1], f"{names[-1]},test"]) + "\n")
    with pytest.raises(InputError, match=f"subject {clips[-1]} is in the splits test and train"):
        open_cohort(f"boxes:{trays}?table={table}")
