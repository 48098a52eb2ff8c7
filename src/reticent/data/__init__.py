"""Data: cohorts of subjects and their records, from image files, tables and archives; splits by subject."""

from reticent.data.cache import DecodedCache
from reticent.data.cohort import DECODED_TARGETS, SPLIT_ROLES, Cohort, Entry, LeftOut, Record, Role, Task
from reticent.data.dicom import DicomReader, absolute_address, is_dicom, segmentation, structured_report
from reticent.data.geometry import read_image, write_mask
from reticent.data.image_files import image_files
from reticent.data.inspect import CohortSummary, SplitSummary, inspect_cohort
from reticent.data.manifest import manifest_name
from reticent.data.open_cohort import open_cohort
from reticent.data.patches import Patches
from reticent.data.pool import read_pool
from reticent.data.preprocess import Preprocessing
from reticent.data.splits import assign_splits
from reticent.data.surfaces import MESH_SUFFIXES, SurfaceOptions, parse_profile
from reticent.data.windows import WINDOWS, parse_window

__all__ = [
    "DECODED_TARGETS",
    "SPLIT_ROLES",
    "Cohort",
    "CohortSummary",
    "DecodedCache",
    "DicomReader",
    "Entry",
    "LeftOut",
    "MESH_SUFFIXES",
    "Patches",
    "Preprocessing",
    "Record",
    "Role",
    "SplitSummary",
    "SurfaceOptions",
    "Task",
    "WINDOWS",
    "absolute_address",
    "assign_splits",
    "image_files",
    "is_dicom",
    "manifest_name",
    "inspect_cohort",
    "open_cohort",
    "parse_profile",
    "parse_window",
    "read_image",
    "read_pool",
    "segmentation",
    "structured_report",
    "write_mask",
]
