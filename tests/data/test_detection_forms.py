"""Boxes in VOC, COCO and Oktoberfest form: read, reported where wrong, and converted without loss."""

import json
from dataclasses import replace

import numpy as np
import pytest
from detection_samples import DAY, FIRST_CLIP, paint, write_coco_file, write_oktoberfest, write_voc_folder

from reticent.data import (
    AnnotationSet,
    absolute_address,
    assign_splits,
    inspect_cohort,
    open_cohort,
    read_coco,
    read_detection,
    read_native,
    read_voc,
    split_by_time,
    write_coco,
    write_native,
    write_voc,
)
from reticent.data.detection import OKTOBERFEST_CLASSES
from reticent.errors import InputError

NAME = "1527012345678_20.jpg"


def tray(root, *lines, image=NAME, shape=(54, 96)):
    """A folder with one list of these lines and one image."""
    paint(root / "Bier" / image, shape, [])
    (root / "Bier" / "files.txt").write_bytes(b"\n".join(x if isinstance(x, bytes) else x.encode() for x in lines))
    return root


def effects(found):
    return [(problem.effect, problem.reason, problem.place) for problem in found.problems]


def test_two_hundred_random_lines_survive_voc_and_coco(tmp_path):
    rng = np.random.default_rng(3)
    lines = []
    for k in range(200):
        fields = [f"{FIRST_CLIP + k}_{rng.choice([20, 45, 70])}.jpg", int(rng.integers(0, 6))]
        for _ in range(fields[1]):
            x, y = int(rng.integers(0, 1900)), int(rng.integers(0, 1060))
            width, height = int(rng.integers(1, 1921 - x)), int(rng.integers(1, 1081 - y))
            fields += [int(rng.integers(0, 15)), x, y, width, height]
        lines.append(" ".join(map(str, fields)))
    (tmp_path / "files.txt").write_text("\n".join(lines) + "\n")
    native = read_native(tmp_path)
    assert not native.problems

    voc = tmp_path / "voc"
    for folder in ("Annotations", "JPEGImages"):
        (voc / folder).mkdir(parents=True)
    for image in native.images:
        text = write_voc(replace(image, shape=(1080, 1920)))
        (voc / "Annotations" / f"{image.image.stem}.xml").write_text(text)
    from_voc = replace(read_voc(voc), classes=OKTOBERFEST_CLASSES)

    coco = tmp_path / "coco.json"
    coco.write_text(json.dumps(write_coco(from_voc)))
    from_coco = read_coco(coco)
    assert write_native(from_coco).splitlines() == lines
    assert [image.shape for image in from_coco.images] == [(1080, 1920)] * 200


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"{NAME} 2 0 1 1 9 9", ("left out", "another number of objects than the line announces", 1)),
        (f"{NAME} 1 0 1 1 9", ("left out", "another number of objects than the line announces", 1)),
        (f"{NAME} -1", ("left out", "another number of objects than the line announces", 1)),
        (f"{NAME} 1 0 1 1 9 nine", ("left out", "no number of objects, or something that is no whole number", 1)),
        (NAME, ("left out", "no number of objects, or something that is no whole number", 1)),
        (b"\xdf.jpg 0", ("left out", "not UTF-8 text", 1)),
        ("1527012345679_20.jpg 0", ("left out", "no such image", 1)),
        (f"{NAME} 1 0 1 1 -9 9", ("dropped", "no width or height", 1)),
        (f"{NAME} 1 0 1 1 9 0", ("dropped", "no width or height", 1)),
        (f"{NAME} 1 15 1 1 9 9", ("dropped", "unknown class 15", 1)),
        (f"{NAME} 1 -1 1 1 9 9", ("dropped", "unknown class -1", 1)),
        (f"{NAME} 1 0 96 1 9 9", ("dropped", "outside the image", 1)),
        (f"{NAME} 1 0 90 -3 9 9", ("clipped", "partly outside the image", 1)),
    ],
)
def test_a_wrong_line_is_reported_with_its_number_and_what_was_done(tmp_path, line, expected):
    found = read_detection(tray(tmp_path, line))
    assert effects(found) == [expected]
    assert str(found.problems[0].file) == str(tmp_path / "Bier" / "files.txt")
    assert len(found.images) == (expected[0] != "left out")
    if expected[0] == "dropped":
        assert found.images[0].boxes == ()
    if expected[0] == "clipped":
        assert found.images[0].boxes == ((90.0, 0.0, 96.0, 6.0),)


def test_an_empty_tray_and_the_whole_image_are_right(tmp_path):
    assert read_detection(tray(tmp_path, f"{NAME} 0")).images[0].boxes == ()
    found = read_detection(tray(tmp_path, f"{NAME} 1 2 0 0 96 54"))
    assert not found.problems
    assert (found.images[0].boxes, found.images[0].labels) == (((0.0, 0.0, 96.0, 54.0),), ("Weissbier",))


def test_names_beyond_ascii_are_kept_and_pointed_at(tmp_path):
    found = read_detection(tray(tmp_path, "Weißbier_20.jpg 1 2 1 1 9 9", image="Weißbier_20.jpg"))
    assert effects(found) == [("kept", "file name beyond ASCII", 1)]
    assert found.images[0].labels == ("Weissbier",)
    cohort = open_cohort(f"boxes:{tmp_path}?classes=Bier,Bier%20Mass,Weißbier", unit="record")
    assert cohort.classes == ("Bier", "Bier Mass", "Weißbier")
    assert len(cohort.remarks["names that other tools may fail over"]) == 2


def test_an_image_in_several_class_folders_counts_once(tmp_path):
    write_oktoberfest(tmp_path, clips=10)
    cohort = open_cohort(str(tmp_path))
    assert len(cohort.entries) == 30
    assert len({entry.locator.image.name for entry in cohort.entries}) == 30
    twice = len(list((tmp_path / "Bier").glob("*.jpg"))) + len(list((tmp_path / "Pommes").glob("*.jpg"))) - 30
    assert twice > 0
    assert [left.reason for left in cohort.left_out] == ["named in an earlier list too"] * twice
    assert all(left.details["where"].startswith(str(tmp_path / "Pommes" / "files.txt:")) for left in cohort.left_out)


def test_clips_are_subjects_and_never_in_two_splits(tmp_path):
    cohort = open_cohort(str(write_oktoberfest(tmp_path, clips=40)))
    splits = assign_splits(cohort, b"key")
    assert {entry.subject for entry in cohort.entries} == {
        str(FIRST_CLIP + clip * 11 * DAY // 40) for clip in range(40)
    }
    by_clip = {}
    for entry, split in zip(cohort.entries, splits, strict=True):
        by_clip.setdefault(entry.subject, set()).add(split)
    assert all(len(own) == 1 for own in by_clip.values())
    assert set(splits) == {"train", "val", "test"}


def test_earlier_days_train_and_the_last_days_test(tmp_path):
    write_oktoberfest(tmp_path, clips=11)
    cohort = open_cohort(f"boxes:{tmp_path}?val-from=2018-05-28&test-from=2018-05-31")
    splits = assign_splits(cohort, b"key")
    by_split = {name: [e.subject for e, s in zip(cohort.entries, splits, strict=True) if s == name] for name in splits}
    assert max(map(int, by_split["train"])) < min(map(int, by_split["val"]))
    assert max(map(int, by_split["val"])) < min(map(int, by_split["test"]))
    assert split_by_time([1.0, 2.0, 3.0], test_from=3.0) == ["train", "train", "test"]
    with pytest.raises(InputError, match="val-from needs a later test-from"):
        open_cohort(f"boxes:{tmp_path}?val-from=2018-05-28")


def test_frames_in_voc_form_tell_their_time_by_their_names(tmp_path):
    write_voc_folder(tmp_path, {f"{FIRST_CLIP + k * DAY}_20": [("bier", 5, 5, 20, 20)] for k in range(3)})
    cohort = open_cohort(f"boxes:{tmp_path}?subject-pattern=(.+)_&test-from=2018-05-24")
    assert [entry.split for entry in cohort.entries] == ["train", "train", "test"]
    assert [entry.subject for entry in cohort.entries] == [str(FIRST_CLIP + k * DAY) for k in range(3)]


def test_the_blood_cells_are_all_there_but_the_two_without_size(shared):
    cohort = open_cohort(str(shared("bccd_detection")), unit="record", hashed=False)
    objects = [cohort.classes[k] for entry in cohort.entries for k in entry.locator.objects]
    assert {name: objects.count(name) for name in cohort.classes} == {"Platelets": 361, "RBC": 4153, "WBC": 372}
    splits = [entry.split for entry in cohort.entries]
    assert {name: splits.count(name) for name in ("train", "val", "test")} == {"train": 205, "val": 87, "test": 72}
    assert [remark.split("/")[-1] for remark in cohort.remarks["boxes dropped"]] == [
        "BloodImage_00338.xml:158: BloodImage_00338.jpg: no width or height",
        "BloodImage_00343.xml:50: BloodImage_00343.jpg: no width or height",
    ]


def test_voc_problems_are_listed_with_their_lines(tmp_path):
    write_voc_folder(tmp_path, {"a": [("cell", 5, 5, 20, 20)], "b": [("cell", 9, 9, 9, 9), ("dust", 1, 1, 3, 3)]})
    (tmp_path / "Annotations" / "c.xml").write_text("<annotation><object>")
    (tmp_path / "Annotations" / "d.xml").write_text(
        "<annotation>\n<object><name>cell</name><bndbox>\n<xmin>a</xmin></bndbox></object>\n</annotation>"
    )
    (tmp_path / "Annotations" / "e.xml").write_text("<annotation>\n\n<object><name>cell</name></object></annotation>")
    paint(tmp_path / "JPEGImages" / "f.png", (9, 9), [])
    found = read_detection(tmp_path)
    where = {problem.image: (problem.place, problem.reason) for problem in found.problems}
    assert where["c"][1].startswith("not readable as VOC annotation (no element found")
    assert where["d"][1] == "not readable as VOC annotation (line 2: xmin is 'a')"
    assert where["e"][1] == "not readable as VOC annotation (line 3: an object without name or bndbox)"
    assert where["f"][1] == "no annotation of this image"
    assert where["b.png"] == (3, "no width or height")
    cohort = open_cohort(f"boxes:{tmp_path}?classes=cell", unit="record")
    assert cohort.classes == ("cell",)
    assert [line.rpartition(": ")[2] for line in cohort.remarks["boxes dropped"]] == [
        "no width or height", "unknown class dust",
    ]  # fmt: skip
    assert sorted(left.key for left in cohort.left_out) == ["c", "d", "e", "f"]


def test_voc_of_the_challenge_counts_from_one(tmp_path):
    write_voc_folder(tmp_path, {"a": [("cell", 1, 1, 60, 40)]})
    assert read_detection(tmp_path).images[0].boxes == ((1.0, 1.0, 60.0, 40.0),)
    one_based = open_cohort(f"boxes:{tmp_path}?one-based=yes", unit="record")
    assert one_based.entries[0].locator.boxes == ((0.0, 0.0, 60.0, 40.0),)
    (image,) = read_voc(tmp_path, one_based=True).images
    assert "<xmin>1</xmin>" in write_voc(image, one_based=True)


def test_image_sets_give_the_splits(tmp_path):
    images = {name: [("cell", 5, 5, 20, 20)] for name in "abcd"}
    write_voc_folder(tmp_path, images, sets={"trainval": ["a", "b"], "val": ["b"], "test": ["c"]})
    found = read_voc(tmp_path)
    assert {image.image.stem: image.split for image in found.images} == {"a": "train", "b": "val", "c": "test"}
    assert [(p.image, p.reason) for p in found.problems] == [("d", "in none of the image sets")]
    write_voc_folder(tmp_path, {}, sets={"train": ["c"]})
    with pytest.raises(InputError, match="c is also in the split test"):
        read_voc(tmp_path)


def test_the_file_name_inside_an_annotation_may_be_a_copy(tmp_path):
    write_voc_folder(tmp_path, {name: [("cell", 5, 5, 20, 20)] for name in "ab"})
    text = (tmp_path / "Annotations" / "b.xml").read_text()
    (tmp_path / "Annotations" / "b.xml").write_text(text.replace("b.png", "a.png"))
    assert [image.name for image in read_detection(tmp_path).images] == ["a.png", "b.png"]
    (tmp_path / "JPEGImages" / "b.png").unlink()
    found = read_detection(tmp_path)
    assert [image.name for image in found.images] == ["a.png"]
    assert effects(found) == [("left out", "annotated twice", None)]


def test_boxes_follow_an_image_that_is_stored_smaller(tmp_path):
    write_voc_folder(tmp_path, {"a": [("cell", 20, 10, 60, 40)], "b": [("cell", 20, 10, 60, 40)]}, shape=(80, 120))
    paint(tmp_path / "JPEGImages" / "a.png", (40, 60), [])
    paint(tmp_path / "JPEGImages" / "b.png", (40, 40), [])
    found = read_detection(tmp_path)
    assert [image.boxes for image in found.images] == [((10.0, 5.0, 30.0, 20.0),)]
    assert effects(found)[0] == ("scaled", "annotated in another size", None)
    assert effects(found)[1][:2] == ("left out", "annotated in another shape")


def test_coco_boxes_subjects_and_times(tmp_path):
    images = {"1.png": [("cell", 5, 6, 10, 8)], "2.png": [("clot", 0.5, 0, 9.5, 4), ("cell", 50, 30, 20, 20)]}
    path = write_coco_file(
        tmp_path / "boxes.json", images, patient_id=[7, 8], date_captured=["2024-01-01", "2024-03-01 12:00:00"]
    )
    cohort = open_cohort(str(path))
    assert cohort.classes == ("cell", "clot")
    assert [entry.subject for entry in cohort.entries] == ["7", "8"]
    assert cohort.entries[1].locator.boxes == ((0.5, 0.0, 10.0, 4.0), (50.0, 30.0, 60.0, 40.0))
    assert [entry.key for entry in cohort.entries] == ["images/1.png", "images/2.png"]
    later = open_cohort(f"boxes:{path}?test-from=2024-02-01")
    assert [entry.split for entry in later.entries] == ["train", "test"]


def test_coco_problems_are_listed_with_their_place(tmp_path):
    path = write_coco_file(tmp_path / "boxes.json", {"1.png": [("cell", 5, 6, 10, 8)] * 5})
    content = json.loads(path.read_text())
    content["annotations"][1]["iscrowd"] = 1
    content["annotations"][2]["bbox"] = [1, 2, 3]
    content["annotations"][3]["category_id"] = 99
    content["annotations"][4]["image_id"] = 5
    content["images"].append({"id": 1, "file_name": "gone.png"})
    content["images"].append({**content["images"][0], "id": 2})
    path.write_text(json.dumps(content))
    found = read_detection(path)
    assert sorted((str(p.place), p.reason) for p in found.problems) == [
        ("annotations[1]", "a region of a crowd"),
        ("annotations[2]", "bbox is [1, 2, 3]"), ("annotations[3]", "unknown class 99"),
        ("annotations[4]", "of an image that is not listed"), ("images[1]", "no such image"),
        ("images[2]", "annotated twice"),
    ]  # fmt: skip
    assert len(found.images[0].boxes) == 1


def test_coco_folders_have_a_file_a_split(tmp_path):
    (tmp_path / "annotations").mkdir()
    for name in ("instances_train2017", "instances_val2017"):
        write_coco_file(tmp_path / "annotations" / f"{name}.json", {f"{name}.png": [("cell", 5, 6, 10, 8)]})
    cohort = open_cohort(str(tmp_path), unit="record")
    assert [entry.split for entry in cohort.entries] == ["train", "val"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', r"images\[0\] has no file_name"),
        ('{"images": [], "annotations": 3, "categories": []}', "annotations is no list"),
        (
            '{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], "annotations": [], '
            '"categories": []}',
            r"images\[1\] has the id 1; each needs a whole number of its own",
        ),
        ('{"images": [], "annotations": [], "categories": [{"id": "x", "name": "a"}]}', "has the id 'x'"),
        ('{"images": 3, "annotations": [], "categories": []}', "not of the COCO form"),
        ('{"images": [], "annotations": [], "categories": []}', "no image with boxes"),
    ],
)
def test_a_coco_file_of_another_form_is_an_error(tmp_path, content, message):
    path = tmp_path / "boxes.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        open_cohort(str(path), unit="record")


def test_subjects_come_from_the_file_names(tmp_path):
    write_voc_folder(tmp_path / "v", {f"p{k // 2}_{k}": [("cell", 5, 5, 20, 20)] for k in range(4)})
    by_name = open_cohort(f"boxes:{tmp_path / 'v'}?subject-pattern=([^_]+)_")
    assert [entry.subject for entry in by_name.entries] == ["p0", "p0", "p1", "p1"]
    with pytest.raises(
        InputError, match=r"no subject \(patient\) identifiers; name them in a column subject of boxes:"
    ):
        open_cohort(str(tmp_path / "v"))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("?most=0", "a whole number from 1 to 1000"),
        ("?subject-pattern=abc", "in brackets"),
        ("?subject-pattern=(", "subject-pattern"),
        ("?classes=a,,b", "each class once"),
        ("?test-from=May", "write a day as"),
        ("?test-from=2018-05-30", "the time of a.png is not known"),
        ("?one-based=1", "say yes or no"),
        ("?colour=red", "no rule 'colour=red'; the rules are table"),
        ("?table=gone.csv", "table=gone.csv: no such file"),
        ("/nowhere", "no boxes at"),
    ],
)
def test_wrong_rules_are_refused_in_one_line(tmp_path, rules, message):
    write_voc_folder(tmp_path, {"a": [("cell", 5, 5, 20, 20)]})
    with pytest.raises(InputError, match=message) as error:
        open_cohort(f"boxes:{tmp_path}{rules}", unit="record")
    assert len(str(error.value).splitlines()) == 1


def test_objects_beyond_the_declared_maximum_are_cut_and_told(tmp_path):
    write_voc_folder(tmp_path, {"a": [("cell", k, 5, k + 9, 20) for k in range(6)]})
    cohort = open_cohort(f"boxes:{tmp_path}?most=4", unit="record")
    targets = cohort.load(0).targets
    assert targets["boxes"].shape == (4, 4)
    assert targets["objects"].tolist() == [0] * 4
    (remark,) = cohort.remarks["images with more objects than the declared maximum (the first are kept)"]
    assert remark.endswith("a.png: 6 objects")
    whole = open_cohort(f"boxes:{tmp_path}?most=8", unit="record").load(0).targets
    assert whole["objects"].tolist() == [0] * 6 + [-1] * 2
    assert not whole["boxes"][6:].any()


def test_a_changed_box_changes_the_stamp(tmp_path):
    write_voc_folder(tmp_path, {"a": [("cell", 5, 5, 20, 20)]})
    before = open_cohort(str(tmp_path), unit="record").stamp(0)
    text = (tmp_path / "Annotations" / "a.xml").read_text()
    (tmp_path / "Annotations" / "a.xml").write_text(text.replace("<xmin>5<", "<xmin>6<"))
    assert open_cohort(str(tmp_path), unit="record").stamp(0) != before


def test_inspection_counts_images_that_show_a_class(tmp_path):
    images = {"a": [("cell", 5, 5, 20, 20)] * 2, "b": [("clot", 5, 5, 20, 20)], "c": []}
    cohort = open_cohort(str(write_voc_folder(tmp_path, images)), unit="record")
    summary = inspect_cohort(cohort, ["train"] * 3)
    assert summary.splits["train"].labels == {"cell": 1, "clot": 1}
    (tmp_path / "JPEGImages" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    broken = open_cohort(str(tmp_path), unit="record")
    assert len(broken.entries) == 2
    assert broken.left_out[0].key == "a.png"
    assert "not a readable image" in broken.left_out[0].reason


def test_addresses_of_boxes_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_address("boxes:trays?table=who.csv&most=9") == (
        f"boxes:{tmp_path}/trays?table={tmp_path}/who.csv&most=9"
    )


def test_what_a_form_cannot_hold_is_refused(tmp_path):
    (image,) = read_detection(tray(tmp_path, f"{NAME} 1 0 1 1 9 9")).images
    half = replace(image, boxes=((0.5, 1.0, 3.0, 4.0),))
    with pytest.raises(InputError, match="whole pixels"):
        write_native(AnnotationSet(OKTOBERFEST_CLASSES, [half], ()))
    with pytest.raises(InputError, match="separates by spaces"):
        write_native(AnnotationSet(OKTOBERFEST_CLASSES, [replace(image, name="a b.jpg")], ()))
    for write in (write_voc, lambda one: write_coco(AnnotationSet(OKTOBERFEST_CLASSES, [one], ()))):
        with pytest.raises(InputError, match="needs the size of the image"):
            write(replace(image, shape=None))
