"""Reading single files for prediction, and writing masks back onto their grid."""

from pathlib import Path

import nibabel
import numpy as np
from nibabel.affines import voxel_sizes

from reticent.data.files import READABLE_SUFFIXES, read_header
from reticent.data.images import decode_image
from reticent.data.nifti import decode_nifti, is_nifti, write_nifti_mask
from reticent.data.preprocess import resize_mask
from reticent.errors import InputError


def read_image(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """The image as float32 (C, ...), as a cohort's reader gives it, and the affine (4, 4) of a NIfTI volume, else None.

    Volumes come in the canonical (RAS+) orientation, and so does the affine. Raises InputError naming the file if it is
    missing, of an unknown kind, unreadable, or holds NaN or infinite values.
    """
    if not path.name.lower().endswith(READABLE_SUFFIXES):
        raise InputError(f"{path}: not an image of a known kind; use one of {', '.join(READABLE_SUFFIXES)}")
    image, affine = decode_nifti(path) if is_nifti(path) else (decode_image(path, None), None)
    if not np.isfinite(image).all():
        raise InputError(f"{path}: the image holds NaN or infinite values; repair it or leave it out")
    return image, affine


def volume_spacing(affine: np.ndarray | None) -> tuple[float, ...] | None:
    """Size of a voxel in mm along the axes of `read_image`; None of a flat image."""
    return None if affine is None else tuple(float(size) for size in voxel_sizes(affine))


def write_mask(path: Path, mask: np.ndarray, like: Path) -> None:
    """Write an integer mask as NIfTI with the affine, orientation and shape of `like`.

    `mask` covers the field of view that `read_image(like)` gave; on a coarser or finer grid it is resized to the
    nearest label. For a flat image such as PNG the affine is the identity and the shape (H, W).
    """
    shape, _ = read_header(like)
    stored = resize_mask(mask, shape).astype(np.uint8 if mask.max() < 256 else np.int16)
    if is_nifti(like):
        write_nifti_mask(path, stored, like)
    else:
        nibabel.save(nibabel.Nifti1Image(stored, np.eye(4)), path)
