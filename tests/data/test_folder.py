from collections import Counter

import numpy as np
import pytest
from PIL import Image

from reticent.data import open_cohort
from reticent.errors import InputError


def test_class_folders_give_sorted_classes_and_no_subjects(tmp_path, save_image):
    for i, name in enumerate(("sick/a.png", "sick/deep/b.jpg", "healthy/c.bmp", "healthy/d.tif", "healthy/.e.png")):
        save_image(tmp_path / name, seed=i)
    cohort = open_cohort(str(tmp_path), unit="record")
    assert (cohort.task, cohort.classes, cohort.has_subjects) == ("binary", ("healthy", "sick"), False)
    assert [(entry.key, entry.label, entry.split) for entry in cohort.entries] == [
        ("healthy/c.bmp", 0, None),
        ("healthy/d.tif", 0, None),
        ("sick/a.png", 1, None),
        ("sick/deep/b.jpg", 1, None),
    ]


def test_split_folders_are_kept_under_their_usual_names(tmp_path, save_image):
    for i, split in enumerate(("Train", "validation", "test")):
        for j, name in enumerate("abc"):
            save_image(tmp_path / split / name / "x.png", seed=3 * i + j)
    save_image(tmp_path / "unlabelled" / "y.png", seed=10)
    cohort = open_cohort(str(tmp_path), unit="record")
    assert cohort.task == "multi-class"
    assert Counter(entry.split for entry in cohort.entries) == {"train": 3, "val": 3, "test": 3, "unlabelled": 1}
    unlabelled = next(i for i, entry in enumerate(cohort.entries) if entry.split == "unlabelled")
    assert cohort.load(unlabelled).targets == {}


def test_pixels_are_channel_first_fractions_of_the_full_range(tmp_path, save_image):
    stored = save_image(tmp_path / "a" / "x.png", shape=(9, 7, 3))
    save_image(tmp_path / "b" / "x.png", seed=1)  # grey in a colour cohort is repeated
    cohort = open_cohort(str(tmp_path), unit="record")
    first, second = cohort.load(0).inputs["image"], cohort.load(1).inputs["image"]
    np.testing.assert_array_equal(first, np.moveaxis(stored, -1, 0).astype(np.float32) / 255)
    assert second.shape == (3, 9, 7)
    assert (second[0] == second[2]).all()
    assert cohort.shape(0) == (9, 7)


def test_sixteen_bit_values_are_kept_as_stored(tmp_path):
    for name, top in (("a", 65535), ("b", 1000)):
        (tmp_path / name).mkdir()
        Image.fromarray(np.array([[0, top]], np.uint16)).save(tmp_path / name / "x.png")
    cohort = open_cohort(str(tmp_path), unit="record")
    assert cohort.channels == {"image": 1}
    assert [cohort.load(i).inputs["image"].max() for i in (0, 1)] == [65535, 1000]


def test_an_empty_split_folder_is_refused(tmp_path, save_image):
    for i, name in enumerate("ab"):
        save_image(tmp_path / "train" / name / "x.png", seed=i)
    (tmp_path / "test").mkdir()
    with pytest.raises(InputError, match=r"test: the split is empty"):
        open_cohort(str(tmp_path), unit="record")


def test_a_folder_that_holds_a_manifest_points_to_it(tmp_path, save_image):
    save_image(tmp_path / "images" / "x.png")
    (tmp_path / "manifest.csv").write_text("file,label")
    with pytest.raises(InputError, match=r"holds manifest\.csv; name that file"):
        open_cohort(str(tmp_path), unit="record")


def test_a_class_folder_beside_split_folders_is_refused(tmp_path, save_image):
    for i, name in enumerate(("train/a", "train/b", "extra")):
        save_image(tmp_path / name / "x.png", seed=i)
    with pytest.raises(InputError, match="extra: not a split name"):
        open_cohort(str(tmp_path), unit="record")


def test_splits_without_a_training_split_are_refused(tmp_path, save_image):
    for i, name in enumerate("ab"):
        save_image(tmp_path / "test" / name / "x.png", seed=i)
    with pytest.raises(InputError, match="train is empty"):
        open_cohort(str(tmp_path), unit="record")


def test_a_folder_of_one_class_or_no_images_is_refused(tmp_path, save_image):
    with pytest.raises(InputError, match="no images"):
        open_cohort(str(tmp_path), unit="record")
    save_image(tmp_path / "a" / "x.png")
    with pytest.raises(InputError, match=r"one class only \(a\)"):
        open_cohort(str(tmp_path), unit="record")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_an_unreadable_or_truncated_image_is_named(tmp_path, save_image, suffix):
    for i, name in enumerate("abc"):
        save_image(tmp_path / name / f"x{suffix}", seed=i, shape=(64, 64))
    truncated, unreadable = tmp_path / "b" / f"x{suffix}", tmp_path / "c" / f"x{suffix}"
    truncated.write_bytes(truncated.read_bytes()[:-600])
    unreadable.write_bytes(b"no image")
    cohort = open_cohort(str(tmp_path), unit="record")
    assert cohort.load(0).inputs["image"].shape == (1, 64, 64)
    for i, name in ((1, f"b/x{suffix}"), (2, f"c/x{suffix}")):
        with pytest.raises(InputError, match=f"{name}.*not a readable image"):
            cohort.load(i)


def test_nan_pixels_and_stacks_of_frames_are_named(tmp_path, save_image):
    for name, frames in (("a", [np.zeros((4, 4), np.float32)]), ("b", [np.full((4, 4), np.nan, np.float32)])):
        (tmp_path / name).mkdir()
        Image.fromarray(frames[0]).save(tmp_path / name / "x.tif")
    pages = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (1, 2)]
    pages[0].save(tmp_path / "b" / "y.tif", save_all=True, append_images=pages[1:])
    cohort = open_cohort(str(tmp_path), unit="record")
    with pytest.raises(InputError, match=r"b/x.tif: the image holds NaN"):
        cohort.load(1)
    with pytest.raises(InputError, match=r"y.tif: 2 frames"):
        cohort.load(2)
