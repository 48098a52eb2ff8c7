"""DICOM as hospitals have it: a tree of files, indexed by headers, becomes a cohort of series or single images."""

from reticent.data.dicom.address import is_dicom
from reticent.data.dicom.opening import open_dicom

__all__ = ["is_dicom", "open_dicom"]
