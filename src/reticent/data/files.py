"""The reader shared by all cohorts whose records are image files: one file a record, and perhaps one for its mask."""

import hashlib
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine, voxel_sizes

from reticent.data.images import IMAGE_SUFFIXES, decode_image, decode_image_mask, read_image_header
from reticent.data.nifti import (
    NIFTI_SUFFIXES,
    decode_nifti,
    decode_nifti_mask,
    is_nifti,
    read_nifti_header,
    read_nifti_spacing,
)
from reticent.errors import InputError

READABLE_SUFFIXES = (*IMAGE_SUFFIXES, *NIFTI_SUFFIXES)
_MOST_VOXELS, _MOST_MM = 0.1, 0.1


def read_header(path: Path) -> tuple[tuple[int, ...], int]:
    """Spatial shape and number of channels of an image or NIfTI file, from its header; raises InputError."""
    return read_nifti_header(path) if is_nifti(path) else read_image_header(path)


@dataclass(frozen=True)
class FileLocator:
    """The files of one record."""

    image: Path
    mask: Path | None = None


@dataclass(frozen=True)
class FileReader:
    """Decodes records from files, as one input named "image" of `channels` channels."""

    channels: int

    def shape(self, locator: FileLocator) -> tuple[int, ...]:
        return read_header(locator.image)[0]

    def spacing(self, locator: FileLocator) -> tuple[float, ...] | None:
        return read_nifti_spacing(locator.image) if is_nifti(locator.image) else None

    def decode(self, locator: FileLocator) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        if not is_nifti(locator.image):
            image = decode_image(locator.image, self.channels)
            return {"image": image}, {} if locator.mask is None else {"mask": decode_mask(locator.mask)}
        image, affine = decode_nifti(locator.image)
        return {"image": image}, mask_on_grid(locator.mask, image.shape[1:], affine)

    def digest(self, locator: FileLocator) -> bytes:
        try:
            with locator.image.open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise InputError(f"{locator.image}: cannot be read ({error.strerror}); check its permissions") from error

    def stamp(self, locator: FileLocator) -> str:
        paths = [locator.image] if locator.mask is None else [locator.image, locator.mask]
        return " ".join(f"{status.st_size}:{status.st_mtime_ns}" for status in (path.stat() for path in paths))


def mask_on_grid(path: Path | None, shape: tuple[int, ...], affine: np.ndarray) -> dict[str, np.ndarray]:
    """The "mask" of a volume of this shape and affine (4, 4), both canonical; nothing if there is none.

    Raises InputError if a mask of this shape lies elsewhere (`distance_of_grids`).
    """
    if path is None:
        return {}
    if not is_nifti(path):
        return {"mask": decode_image_mask(path)}
    mask, own = decode_nifti_mask(path)
    apart = distance_of_grids(affine, own, shape)
    if mask.shape == shape and apart > 0:
        raise InputError(
            f"{path}: the mask lies up to {apart:.3g} mm beside its image (another origin, direction or voxel size); "
            "export it in the geometry of the image"
        )
    return {"mask": mask}


def distance_of_grids(affine: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> float:
    """How far in mm two grids of this shape are apart, at most; 0 if within 0.1 mm or a tenth of a voxel."""
    corners = np.array(list(product(*((0, side - 1) for side in shape))))
    apart = np.linalg.norm(apply_affine(affine, corners) - apply_affine(other, corners), axis=1).max()
    return float(apart) if apart > max(_MOST_MM, _MOST_VOXELS * voxel_sizes(affine).min()) else 0.0


def decode_mask(path: Path) -> np.ndarray:
    """The mask as int64, by the kind of its file; raises InputError."""
    return decode_nifti_mask(path)[0] if is_nifti(path) else decode_image_mask(path)
