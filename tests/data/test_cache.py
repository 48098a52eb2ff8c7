import errno
import os
import stat
import time

import numpy as np
import pytest

from reticent.data import DecodedCache, Preprocessing, cache, open_cohort
from reticent.errors import InputError


def test_cached_records_equal_freshly_decoded_ones(tmp_path):
    cohort, preprocessing = open_cohort("phantom:chest?subjects=20"), Preprocessing((16, 16))
    cached = DecodedCache(cohort, preprocessing, tmp_path / "cache")
    assert len(cached) == len(cohort.entries)
    for i in (0, 7, len(cohort.entries) - 1):
        fresh, stored = preprocessing.apply(cohort.load(i)), cached[i]
        np.testing.assert_array_equal(stored.inputs["image"], fresh.inputs["image"])
        assert (stored.subject, stored.attributes) == (fresh.subject, fresh.attributes)
        assert stored.targets["label"] == fresh.targets["label"]
    inputs, targets = cached.batch([3, 1, 3])
    assert inputs["image"].shape == (3, 1, 16, 16)
    np.testing.assert_array_equal(inputs["image"][1], cached[1].inputs["image"])
    assert targets["label"].tolist() == [cohort.entries[i].label for i in (3, 1, 3)]


def test_an_empty_batch_keeps_the_shape_of_its_records(tmp_path):
    cohort = open_cohort("phantom:chest?subjects=3")
    inputs, targets = DecodedCache(cohort, Preprocessing(), tmp_path).batch([])
    assert (inputs["image"].shape, targets["label"].shape) == ((0, 1, 32, 32), (0,))


def test_masks_come_back_as_label_numbers(shared, tmp_path):
    cohort = open_cohort(str(shared("busi/manifest.csv")), unit="record", columns={"mask": "file"})
    cohort = type(cohort)(**{**vars(cohort), "entries": cohort.entries[:6]})
    preprocessing = Preprocessing((32, 32))
    masks = DecodedCache(cohort, preprocessing, tmp_path).batch(range(6))[1]["mask"]
    assert masks.dtype == np.int64
    np.testing.assert_array_equal(masks[2], preprocessing.apply(cohort.load(2)).targets["mask"])


def test_unlabelled_records_have_no_targets(make_manifest, tmp_path):
    path = make_manifest("file,patient,label,split", "0.png,a,0,train", "1.png,b,1,train", "2.png,c,,unlabelled")
    cached = DecodedCache(open_cohort(str(path)), Preprocessing(), tmp_path / "cache")
    assert cached[2].targets == {}
    assert cached.batch([0, 2])[1] == {}
    assert cached.batch([0, 1])[1]["label"].tolist() == [0, 1]


def test_the_cache_is_built_once_and_again_when_a_file_or_the_preprocessing_changes(
    make_manifest, tmp_path, save_image
):
    path = make_manifest("file,patient,label", "0.png,a,0", "1.png,b,1")
    calls = []

    def build(preprocessing):
        calls.clear()
        DecodedCache(open_cohort(str(path)), preprocessing, tmp_path / "cache", lambda *step: calls.append(step))
        return list(calls)

    assert build(Preprocessing()) == [(1, 2), (2, 2)]
    assert build(Preprocessing()) == []
    assert build(Preprocessing(normalise="scale")) == [(1, 2), (2, 2)]
    save_image(tmp_path / "images" / "1.png", seed=9)
    os.utime(tmp_path / "images" / "1.png", ns=(1, 1))
    assert build(Preprocessing()) == [(1, 2), (2, 2)]


def test_an_interrupted_build_is_never_used_and_leaves_nothing(tmp_path):
    cohort = open_cohort("phantom:chest?subjects=10")

    def interrupt(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        DecodedCache(cohort, Preprocessing(), tmp_path / "cache", interrupt)
    assert not list((tmp_path / "cache").iterdir())
    assert DecodedCache(cohort, Preprocessing(), tmp_path / "cache")[5].inputs["image"].any()


def test_what_a_killed_build_left_is_removed_but_not_what_is_being_written(tmp_path):
    cohort = open_cohort("phantom:chest?subjects=3")
    name = cache._fingerprint(cohort, Preprocessing())
    for part in ("old", "new"):
        (tmp_path / f"{name}.part-{part}").mkdir()
    past = time.time() - 2 * 3600
    os.utime(tmp_path / f"{name}.part-old", (past, past))
    DecodedCache(cohort, Preprocessing(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, f"{name}.part-new"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX file modes")
def test_the_folder_is_readable_by_its_owner_only(tmp_path):
    (tmp_path / "cache").mkdir(mode=0o755)
    DecodedCache(open_cohort("phantom:chest?subjects=3"), Preprocessing(), tmp_path / "cache")
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


def test_images_of_different_sizes_need_an_image_size(tmp_path, save_image):
    save_image(tmp_path / "c" / "a" / "x.png", seed=0)
    save_image(tmp_path / "c" / "b" / "y.png", seed=1, shape=(5, 7))
    cohort = open_cohort(str(tmp_path / "c"), unit="record")
    with pytest.raises(InputError, match=r"a/x.png is 9 x 7, b/y.png is 5 x 7; give one size with --image-size"):
        DecodedCache(cohort, Preprocessing(), tmp_path / "cache")
    assert DecodedCache(cohort, Preprocessing((4, 4)), tmp_path / "cache")[1].inputs["image"].shape == (1, 4, 4)


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "_write", full)
    with pytest.raises(InputError, match=r"could not be saved \(No space left"):
        DecodedCache(open_cohort("phantom:chest?subjects=3"), Preprocessing(), tmp_path)
    assert not list(tmp_path.iterdir())
