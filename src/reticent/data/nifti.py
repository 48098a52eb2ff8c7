"""NIfTI volumes, by nibabel, brought to the canonical (RAS+) orientation so that all volumes of a cohort agree."""

import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform
from nibabel.spatialimages import HeaderDataError

from reticent.errors import InputError

NIFTI_SUFFIXES = (".nii", ".nii.gz")
_UNREADABLE = (OSError, EOFError, ValueError, TypeError, zlib.error, ImageFileError, HeaderDataError)
_RAS = np.array([[0, 1], [1, 1], [2, 1]])


def is_nifti(path: Path) -> bool:
    """Whether the file name ends as NIfTI files do."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def read_nifti_header(path: Path) -> tuple[tuple[int, ...], int]:
    """Canonical spatial shape and number of channels (the fourth axis), from the header; raises InputError."""
    image = _open(path)
    order = np.argsort(io_orientation(image.affine)[:, 0])
    shape = tuple(int(image.shape[axis]) for axis in order)
    return shape, int(image.shape[3]) if len(image.shape) == 4 else 1


def read_nifti_spacing(path: Path) -> tuple[float, ...]:
    """Voxel size in mm along the canonical axes, from the header; raises InputError."""
    image = _open(path)
    order = np.argsort(io_orientation(image.affine)[:, 0])
    return tuple(float(size) for size in voxel_sizes(image.affine)[order])


def decode_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The volume as float32 (C, X, Y, Z) and its canonical affine (4, 4); a fourth stored axis is the channel.

    Stored values are kept (after the header's slope and intercept). Raises InputError for an unreadable or
    truncated file.
    """
    image = _open(path)
    voxels = _voxels(image, path, np.float32)
    orientation = io_orientation(image.affine)
    canonical = apply_orientation(voxels, orientation)
    affine = image.affine @ inv_ornt_aff(orientation, image.shape[:3])
    channel_first = np.moveaxis(canonical, 3, 0) if canonical.ndim == 4 else canonical[None]
    return np.ascontiguousarray(channel_first), affine


def decode_nifti_mask(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The mask as int64 (X, Y, Z) in canonical orientation, and its affine (4, 4) there.

    Raises InputError if it is unreadable or not of whole numbers.
    """
    image = _open(path)
    orientation = io_orientation(image.affine)
    voxels = apply_orientation(_voxels(image, path, np.float64), orientation)
    mask = np.squeeze(voxels, 3) if voxels.ndim == 4 and voxels.shape[3] == 1 else voxels
    whole: np.ndarray = np.nan_to_num(np.rint(mask), posinf=0, neginf=0).astype(np.int64)
    if not np.array_equal(whole, mask):
        raise InputError(f"{path}: the mask holds values that are not whole numbers; store label numbers")
    return whole, image.affine @ inv_ornt_aff(orientation, image.shape[:3])


def write_nifti_mask(path: Path, mask: np.ndarray, like: Path) -> None:
    """Write a canonical mask (X, Y, Z) with the orientation, affine and shape of the NIfTI file `like`."""
    image = _open(like)
    stored = apply_orientation(mask, ornt_transform(_RAS, io_orientation(image.affine)))
    header = nibabel.Nifti1Header()
    header.set_data_dtype(stored.dtype)
    header.set_xyzt_units(*image.header.get_xyzt_units())
    try:
        nibabel.save(nibabel.Nifti1Image(stored, image.affine, header), path)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise InputError(f"{path}: could not be saved ({error.strerror}); make room or choose another --out") from error


def _open(path: Path) -> Any:
    try:
        image: Any = nibabel.load(path)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    if len(image.shape) not in (3, 4):
        raise InputError(f"{path}: {len(image.shape)} axes; a volume has three, or four with channels last")
    if not np.isfinite(image.affine).all() or np.linalg.matrix_rank(image.affine[:3, :3]) < 3:
        raise InputError(f"{path}: the affine of its header is singular, so that its orientation is unknown; repair it")
    return image


def _voxels(image: Any, path: Path, dtype: type) -> np.ndarray:
    try:
        return np.asarray(image.dataobj, dtype)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: not a readable NIfTI file ({error}); replace the file or leave it out")
