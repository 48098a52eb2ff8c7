"""The reader shared by all cohorts whose records are image files: one file a record, and perhaps one for its mask."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reticent.data.images import IMAGE_SUFFIXES, decode_image, decode_image_mask, read_image_header
from reticent.data.nifti import NIFTI_SUFFIXES, decode_nifti, decode_nifti_mask, is_nifti, read_nifti_header
from reticent.errors import InputError

READABLE_SUFFIXES = (*IMAGE_SUFFIXES, *NIFTI_SUFFIXES)


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

    def decode(self, locator: FileLocator) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        volume = is_nifti(locator.image)
        image = decode_nifti(locator.image)[0] if volume else decode_image(locator.image, self.channels)
        return {"image": image}, None if locator.mask is None else _decode_mask(locator.mask)

    def digest(self, locator: FileLocator) -> bytes:
        try:
            with locator.image.open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise InputError(f"{locator.image}: cannot be read ({error.strerror}); check its permissions") from error

    def stamp(self, locator: FileLocator) -> str:
        paths = [locator.image] if locator.mask is None else [locator.image, locator.mask]
        return " ".join(f"{status.st_size}:{status.st_mtime_ns}" for status in (path.stat() for path in paths))


def _decode_mask(path: Path) -> np.ndarray:
    return decode_nifti_mask(path) if is_nifti(path) else decode_image_mask(path)
