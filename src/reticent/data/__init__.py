"""Data: cohorts of subjects and their records, from image files, tables and archives; splits by subject."""

from reticent.data.addresses import absolute_address
from reticent.data.cache import DecodedCache
from reticent.data.cohort import DECODED_TARGETS, SPLIT_ROLES, Cohort, Entry, LeftOut, Record, Role, Task
from reticent.data.detection import (
    Annotation,
    AnnotationSet,
    Problem,
    category_numbers,
    clip_boxes,
    is_detection,
    read_coco,
    read_detection,
    read_native,
    read_voc,
    write_coco,
    write_native,
    write_voc,
)
from reticent.data.dicom import DicomReader, is_dicom, segmentation, structured_report
from reticent.data.geometry import read_image, write_mask
from reticent.data.image_files import image_files
from reticent.data.inspect import CohortSummary, SplitSummary, inspect_cohort
from reticent.data.manifest import manifest_name
from reticent.data.open_cohort import open_cohort
from reticent.data.patches import Patches
from reticent.data.pool import read_pool
from reticent.data.preprocess import Preprocessing
from reticent.data.splits import assign_splits, split_by_time
from reticent.data.surfaces import MESH_SUFFIXES, SurfaceOptions, parse_profile
from reticent.data.windows import WINDOWS, parse_window

__all__ = [
    "DECODED_TARGETS",
    "SPLIT_ROLES",
    "Annotation",
    "AnnotationSet",
    "Cohort",
    "CohortSummary",
    "DecodedCache",
    "DicomReader",
    "Entry",
    "LeftOut",
    "MESH_SUFFIXES",
    "Patches",
    "Preprocessing",
    "Problem",
    "Record",
    "Role",
    "SplitSummary",
    "SurfaceOptions",
    "Task",
    "WINDOWS",
    "absolute_address",
    "assign_splits",
    "category_numbers",
    "clip_boxes",
    "image_files",
    "is_detection",
    "is_dicom",
    "manifest_name",
    "inspect_cohort",
    "open_cohort",
    "parse_profile",
    "parse_window",
    "read_coco",
    "read_detection",
    "read_image",
    "read_native",
    "read_pool",
    "segmentation",
    "structured_report",
    "read_voc",
    "split_by_time",
    "write_coco",
    "write_mask",
    "write_native",
    "write_voc",
]
