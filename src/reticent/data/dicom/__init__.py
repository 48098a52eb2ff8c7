"""DICOM as hospitals have it: a tree of files, indexed by headers, becomes a cohort of series or single images."""

from reticent.data.dicom.address import is_dicom
from reticent.data.dicom.opening import open_dicom
from reticent.data.dicom.reader import DicomReader
from reticent.data.dicom.results import segmentation, structured_report

__all__ = ["DicomReader", "is_dicom", "open_dicom", "segmentation", "structured_report"]
