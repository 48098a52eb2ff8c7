"""PNG, JPEG, BMP and TIFF images, by Pillow."""

from pathlib import Path

import numpy as np
from PIL import Image

from reticent.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_DEEP_MODES = ("I", "F")  # 16-bit, 32-bit integer and floating-point grey


def read_image_header(path: Path) -> tuple[tuple[int, int], int]:
    """Shape (H, W) and number of channels (1 for grey, 3 for any colour mode) without decoding; raises InputError."""
    try:
        with Image.open(path) as image:
            return (image.height, image.width), _channels(image.mode)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def decode_image(path: Path, channels: int | None) -> np.ndarray:
    """The image as float32 (C, H, W): 8-bit values divided by 255, deeper ones as stored.

    Colour becomes grey by its luminance and grey is repeated, as `channels` (1 or 3; None: as stored) asks. Raises
    InputError for an unreadable or truncated file and for one of several frames.
    """
    try:
        with Image.open(path) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                raise InputError(f"{path}: {frames} frames in one file; store one image a file, or a volume as NIfTI")
            return _pixels(image, channels or _channels(image.mode))
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def decode_image_mask(path: Path) -> np.ndarray:
    """A binary mask as int64 (H, W): 0 where the stored value is 0, else 1.

    Raises InputError for an unreadable file and for more than one value besides 0 (several labels, or a lossy format).
    """
    stored = _stored(path)
    values = np.unique(stored)
    if np.count_nonzero(values) > 1:
        raise InputError(
            f"{path}: the mask holds {len(values)} values, but image masks are binary (0 and one other value); "
            "store it as lossless PNG, or several labels as NIfTI in an MSD folder"
        )
    mask: np.ndarray = (stored != 0).astype(np.int64)
    return mask


def decode_label_image(path: Path) -> np.ndarray:
    """Label numbers as int64 (H, W), those stored; raises InputError for an unreadable file."""
    return _stored(path).astype(np.int64)


def _stored(path: Path) -> np.ndarray:
    """The values of a mask, (H, W)."""
    try:
        with Image.open(path) as image:
            colour = _channels(image.mode) == 3 and image.mode != "P"  # a palette's indices are the stored values
            return np.asarray(image.convert("L") if colour else image)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _channels(mode: str) -> int:
    return 1 if mode in ("1", "L", "LA") or mode.startswith(_DEEP_MODES) else 3


def _pixels(image: Image.Image, channels: int) -> np.ndarray:
    if image.mode.startswith(_DEEP_MODES):
        return np.repeat(np.asarray(image, np.float32)[None], channels, axis=0)
    values = np.asarray(image.convert("L" if channels == 1 else "RGB"), np.float32) / 255
    return values[None] if channels == 1 else np.ascontiguousarray(np.moveaxis(values, -1, 0))


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: not a readable image ({error}); replace the file or leave it out")
