"""DICOM as hospitals have it: a tree of files, indexed by headers, becomes a cohort of series or single images."""

from reticent.data.dicom.address import absolute_address, is_dicom
from reticent.data.dicom.opening import open_dicom

__all__ = ["absolute_address", "is_dicom", "open_dicom"]
