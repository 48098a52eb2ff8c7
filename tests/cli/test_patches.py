"""`--patch-size` as its user sees it."""

from pathlib import Path

import nibabel
import numpy as np

PRIVACY = ["--noise-multiplier", "1", "--delta", "0.01", "--steps", "3", "--sampling-rate", "0.4"]


def test_volumes_of_any_size_are_trained_by_patches_and_masks_have_their_geometry(reticent, write_volumes):
    manifest = write_volumes()
    small = ["--model-argument", "width=4", "--patch-size", "8x8x4", "--views", "2", "--foreground", "0.7"]
    ended = reticent("train", manifest, *PRIVACY, *small, "--out", "run")
    assert ended.code == 0, ended.err
    volume = sorted((manifest.parent / "images").iterdir())[0]
    ended = reticent("predict", "run", volume, "--out", "masks")
    assert ended.code == 0, ended.err
    (path,) = Path("masks").iterdir()
    mask, image = nibabel.load(path), nibabel.load(volume)
    assert mask.shape == image.shape
    np.testing.assert_array_equal(mask.affine, image.affine)
    ended = reticent("audit", "run", "--attack", "loss", "--attack", "step")
    assert ended.code == 0, ended.err


def test_patches_of_classes_and_double_sizes_are_refused_in_one_line(reticent, write_cohort, write_volumes):
    for cohort, options, told in (
        (write_cohort(), ["--patch-size", "8"], "--patch-size is for segmentation"),
        (write_volumes(), ["--patch-size", "8", "--image-size", "8"], "say one"),
        (write_volumes("other"), ["--patch-size", "8x8"], "--patch-size has 2 numbers"),
        (write_volumes("more"), ["--foreground", "0.9"], "say --patch-size"),
    ):
        ended = reticent("train", cohort, *PRIVACY, *options, "--out", "run")
        assert ended.code == 2
        assert told in ended.err
        assert len(ended.err.strip().splitlines()) <= 2
        assert not Path("run").exists()
