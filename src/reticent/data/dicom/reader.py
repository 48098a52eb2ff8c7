"""Decodes chosen series and flat images as records of a cohort."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

from reticent.data.dicom.pixels import read_frames, stored_bytes
from reticent.data.dicom.series import Series
from reticent.data.files import decode_mask, mask_on_grid
from reticent.data.preprocess import to_channels
from reticent.errors import InputError


@dataclass(frozen=True)
class DicomLocator:
    """A series or flat image, and perhaps the mask that was drawn on it: NIfTI, or of a flat image PNG."""

    series: Series
    mask: Path | None = None


@dataclass(frozen=True)
class DicomReader:
    """Volumes as (1, X, Y, Z) in the canonical (RAS+) orientation, flat images as (channels, H, W).

    `voi` applies the windows of the files.
    """

    root: Path
    channels: int
    voi: bool

    def shape(self, locator: DicomLocator) -> tuple[int, ...]:
        header, affine = locator.series.header, locator.series.affine
        if affine is None:
            return header.rows, header.columns
        stored = (header.columns, header.rows, len(locator.series.slices))
        return tuple(stored[axis] for axis in np.argsort(io_orientation(affine)[:, 0]))

    def spacing(self, locator: DicomLocator) -> tuple[float, ...] | None:
        affine = canonical_affine(locator.series)
        if affine is not None:
            return tuple(float(size) for size in voxel_sizes(affine))
        spacing = locator.series.header.spacing
        return spacing if spacing and all(size > 0 for size in spacing) else None

    def decode(self, locator: DicomLocator) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        series = locator.series
        images = self._images(series)
        if series.affine is None:
            flat = images[0][None] if images[0].ndim == 2 else images[0]
            targets = {} if locator.mask is None else {"mask": decode_mask(locator.mask)}
            return {"image": to_channels(flat, self.channels, series.key)}, targets
        if len({image.shape for image in images}) > 1:
            raise InputError(f"{series.key}: its slices are decoded to different sizes; leave the series out")
        volume = apply_orientation(np.stack(images, -1).swapaxes(0, 1), io_orientation(series.affine))
        affine = canonical_affine(series)
        assert affine is not None
        return {"image": np.ascontiguousarray(volume[None])}, mask_on_grid(locator.mask, volume.shape, affine)

    def digest(self, locator: DicomLocator) -> bytes:
        digest = hashlib.sha256()
        for path in locator.series.files:
            digest.update(stored_bytes(self.root / path))
        return digest.digest()

    def stamp(self, locator: DicomLocator) -> str:
        paths = [self.root / path for path in locator.series.files]
        if locator.mask is not None:
            paths.append(locator.mask)
        stamps = [f"{status.st_size}:{status.st_mtime_ns}" for status in (path.stat() for path in paths)]
        return " ".join(["voi" if self.voi else "stored", *stamps])

    def _images(self, series: Series) -> list[np.ndarray]:
        frames: defaultdict[str, list[int | None]] = defaultdict(list)
        for path, frame in series.slices:
            frames[path].append(frame)
        decoded = {
            (path, frame): image
            for path, wanted in frames.items()
            for frame, image in zip(wanted, read_frames(self.root / path, wanted, voi=self.voi), strict=True)
        }
        return [decoded[place] for place in series.slices]


def canonical_affine(series: Series) -> np.ndarray | None:
    """The affine (4, 4) of the decoded volume, from indices to RAS+ mm; None for a flat image."""
    if series.affine is None:
        return None
    header = series.header
    stored = (header.columns, header.rows, len(series.slices))
    affine: np.ndarray = series.affine @ inv_ornt_aff(io_orientation(series.affine), stored)
    return affine
