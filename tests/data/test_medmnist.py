import functools
import hashlib
import http.server
import shutil
import threading
from collections import Counter

import numpy as np
import pytest

from reticent.data import medmnist, open_cohort
from reticent.data.medmnist_sets import SETS
from reticent.errors import InputError


def archive(path, *, images=(20, 6, 6), labels=None, splits=("train", "val", "test")):
    generator = np.random.default_rng(0)
    arrays = {}
    for split in splits:
        arrays[f"{split}_images"] = generator.integers(0, 256, images, np.uint8)
        arrays[f"{split}_labels"] = np.arange(images[0])[:, None] % 2 if labels is None else labels
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("name", "sizes", "shape", "classes"),
    [
        ("pneumoniamnist", (4708, 524, 624), (28, 28), ("normal", "pneumonia")),
        ("breastmnist", (546, 78, 156), (28, 28), ("malignant", "normal, benign")),
        ("adrenalmnist3d", (1188, 98, 298), (28, 28, 28), ("normal", "hyperplasia")),
    ],
)
def test_the_official_sets_have_their_published_splits(shared, monkeypatch, name, sizes, shape, classes):
    monkeypatch.setenv("RETICENT_DATA", str(shared("medmnist")))
    cohort = open_cohort(f"medmnist:{name}", unit="record")
    assert Counter(entry.split for entry in cohort.entries) == dict(zip(("train", "val", "test"), sizes, strict=True))
    assert (cohort.task, cohort.classes, cohort.ndim, cohort.has_subjects) == ("binary", classes, len(shape), False)
    assert cohort.shape(0) == shape
    assert cohort.load(0).inputs["image"].shape == (1, *shape)
    assert "s41597-022-01721-8" in cohort.citation
    assert cohort.licence == "CC BY 4.0"
    with np.load(shared("medmnist") / f"{name}.npz") as stored:
        last = stored["test_images"][-1]
        assert cohort.digest(len(cohort.entries) - 1) == hashlib.sha256(last.tobytes()).digest()
        np.testing.assert_array_equal(cohort.load(len(cohort.entries) - 1).inputs["image"][0] * 255, last)


def test_pneumoniamnist_has_1214_normal_training_images(shared):
    cohort = open_cohort(str(shared("medmnist/pneumoniamnist.npz")), unit="record")
    assert Counter(entry.label for entry in cohort.entries if entry.split == "train") == {0: 1214, 1: 3494}


def test_an_altered_copy_of_a_known_set_is_refused(shared, tmp_path):
    altered = archive(tmp_path / "pneumoniamnist.npz")
    with pytest.raises(InputError, match=r"not the official file .*28209eda62fecd6e6a2d98b1501bb15f"):
        open_cohort(str(altered), unit="record")


def test_a_cohort_without_subjects_asks_for_the_record_unit(tmp_path):
    with pytest.raises(InputError, match=r"no subject \(patient\) identifiers.*`--unit record`"):
        open_cohort(str(archive(tmp_path / "own.npz")))


@pytest.mark.parametrize(
    ("images", "ndim", "channels"), [((20, 6, 5), 2, 1), ((20, 6, 5, 3), 2, 3), ((20, 4, 6, 5), 3, 1)]
)
def test_grey_colour_and_volumes_are_told_apart_by_their_axes(tmp_path, images, ndim, channels):
    cohort = open_cohort(str(archive(tmp_path / "own.npz", images=images)), unit="record")
    spatial = images[1 : 1 + ndim]
    assert (cohort.ndim, cohort.channels["image"], cohort.shape(0)) == (ndim, channels, spatial)
    assert cohort.load(0).inputs["image"].shape == (channels, *spatial)


def test_labels_of_several_columns_are_multi_label(tmp_path):
    labels = np.stack([np.arange(20) % 2, np.arange(20) % 3 == 0, np.arange(20) % 5 == 0], 1).astype(np.uint8)
    cohort = open_cohort(str(archive(tmp_path / "own.npz", labels=labels)), unit="record")
    assert (cohort.task, cohort.entries[0].label) == ("multi-label", (0, 1, 1))


def test_labels_that_do_not_count_from_zero_become_indices(tmp_path):
    labels = np.array([3, 5] * 10)
    cohort = open_cohort(str(archive(tmp_path / "own.npz", labels=labels)), unit="record")
    assert cohort.classes == ("3", "5")
    assert {entry.label for entry in cohort.entries} == {0, 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": np.array(["a", "b"] * 10)}, "train_labels is not numeric"),
        ({"labels": np.array([0, 1] * 9)}, "20 images but 18 labels"),
        ({"labels": np.zeros(20, int)}, "one class only"),
        ({"labels": np.full((20, 2), 2)}, "must be 0 or 1"),
        ({"images": (0, 6, 6)}, "the split train is empty"),
        ({"splits": ("test",)}, "no array train_images"),
        ({"labels": np.array([None, 1] * 10, object)}, "not a readable NPZ"),
    ],
)
def test_a_faulty_archive_is_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        open_cohort(str(archive(tmp_path / "own.npz", **options)), unit="record")


def test_a_truncated_or_missing_archive_is_named(tmp_path):
    path = archive(tmp_path / "own.npz")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match=r"own.npz: not a readable NPZ"):
        open_cohort(str(path), unit="record")
    with pytest.raises(InputError, match=r"gone.npz: no such file"):
        open_cohort(str(tmp_path / "gone.npz"), unit="record")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty working directory, home and data folder: nothing can be found locally."""
    for name in ("work", "home", "store"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RETICENT_DATA", str(tmp_path / "store"))
    return tmp_path


@pytest.fixture
def record(elsewhere, monkeypatch):
    """A local stand-in for the official record, serving the folder it returns."""
    folder = elsewhere / "record"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    monkeypatch.setattr(handler.func, "log_message", lambda *arguments: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(medmnist, "OFFICIAL_RECORD", f"http://127.0.0.1:{server.server_port}")
    yield folder
    server.shutdown()
    server.server_close()


def test_nothing_is_downloaded_unless_asked_and_known(record):
    with pytest.raises(InputError, match="say `--download`"):
        open_cohort("medmnist:breastmnist", unit="record")
    with pytest.raises(InputError, match="its checksum is not known"):
        open_cohort("medmnist:breastmnist_999", unit="record", download=True)
    with pytest.raises(InputError, match="no MedMNIST set of that name"):
        open_cohort("medmnist:brainmnist", unit="record", download=True)


def test_a_download_is_verified_and_then_found_locally(record, shared, elsewhere):
    shutil.copy(shared("medmnist/breastmnist.npz"), record)
    assert len(open_cohort("medmnist:breastmnist", unit="record", download=True).entries) == 780
    (record / "breastmnist.npz").unlink()
    assert len(open_cohort("medmnist:breastmnist", unit="record").entries) == 780
    assert [path.name for path in (elsewhere / "store").iterdir()] == ["breastmnist.npz"]


def test_a_download_of_other_content_or_none_leaves_nothing(record, elsewhere):
    archive(record / "breastmnist.npz")
    with pytest.raises(InputError, match="not the official file"):
        open_cohort("medmnist:breastmnist", unit="record", download=True)
    with pytest.raises(InputError, match="the download failed"):
        open_cohort("medmnist:pneumoniamnist", unit="record", download=True)
    assert not list((elsewhere / "store").iterdir())


def test_every_checksum_in_the_table_is_distinct_and_well_formed():
    sums = [md5 for known in SETS.values() for md5 in known.md5.values()]
    assert len(SETS) == 18
    assert len(set(sums)) == len(sums)
    assert all(len(md5) == 32 and int(md5, 16) for md5 in sums)
