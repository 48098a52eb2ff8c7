import numpy as np
from PIL import Image, ImageDraw

from reticent.data.burnt_in import text_suspected


def read(path):
    return np.asarray(Image.open(path).convert("L"), np.float32)[None]


def test_words_in_real_ultrasound_and_bedside_images_are_suspected(shared):
    """Each of these shows words (LEFT BREAST, RT AXILLA, Bettaufnahme), as looking at them tells."""
    busi, chest = shared("busi") / "images", shared("hannover_covid_cxr") / "images"
    for name in ("benign_001", "benign_003", "benign_195", "benign_199", "benign_207", "benign_223", "benign_231"):
        assert text_suspected(read(busi / f"{name}.jpg")), name
    assert text_suspected(read(chest / "b03ef875.jpg"))


def test_radiographs_without_words_are_not(shared):
    """At most one in a hundred; letters that mark the side (R, L) are no line of text."""
    images = sorted((shared("kermany_cxr") / "images").iterdir())[::6]
    assert sum(text_suspected(read(path)) for path in images) <= len(images) / 100


def test_text_in_an_outer_or_middle_slice_along_any_axis_is_seen():
    noise = np.random.default_rng(0).normal(100, 10, (120, 130, 140)).astype(np.float32)
    assert not text_suspected(noise[None])
    for axis in range(3):
        for k in (0, noise.shape[axis] // 2, noise.shape[axis] - 1):
            volume = noise.copy()
            picture = np.moveaxis(volume, axis, 0)[k].T
            drawn = Image.new("L", picture.shape[::-1])
            ImageDraw.Draw(drawn).text((20, 50), "DOE JOHN", fill=1, font_size=15)
            picture += 200 * np.asarray(drawn, np.float32)
            assert text_suspected(volume[None]), (axis, k)


def test_constant_images_and_grids_are_no_text():
    assert not text_suspected(np.zeros((3, 50, 50), np.float32))
    grid = np.zeros((1, 100, 100), np.float32)
    grid[:, ::10] = grid[:, :, ::10] = 1
    assert not text_suspected(grid)
