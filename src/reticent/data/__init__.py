"""Data: cohorts of subjects and their records, from image files, tables and archives; splits by subject."""

from reticent.data.addresses import absolute_address
from reticent.data.cache import DecodedCache
from reticent.data.cohort import DECODED_TARGETS, SPLIT_ROLES, Cohort, Entry, LeftOut, Record, Role, Task
from reticent.data.composite_response import MarkerRule, composite_response
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
from reticent.data.folds import FoldPlace, assign_folds, check_folds
from reticent.data.geometry import read_image, volume_spacing, write_mask
from reticent.data.image_files import image_files
from reticent.data.inspect import CohortSummary, SplitSummary, inspect_cohort
from reticent.data.localisation import Box, crop, localise, paste
from reticent.data.manifest import MANIFEST_SUFFIXES, manifest_markers, manifest_name, manifest_rows
from reticent.data.markers import (
    PADDING,
    VECTOR_INPUTS,
    Marker,
    Scale,
    input_shape,
    marker_values,
    parse_markers,
    training_scales,
    without_markers,
)
from reticent.data.open_cohort import open_cohort
from reticent.data.patches import Patches
from reticent.data.pool import read_pool
from reticent.data.preprocess import Preprocessing
from reticent.data.recist import recist_response
from reticent.data.response_table import Assessment, Lesion, Visit, assess, by_subject, read_visits
from reticent.data.splits import assign_splits, split_by_time
from reticent.data.surfaces import MESH_SUFFIXES, SurfaceOptions, parse_profile
from reticent.data.windows import WINDOWS, parse_window

__all__ = [
    "DECODED_TARGETS",
    "MANIFEST_SUFFIXES",
    "SPLIT_ROLES",
    "Assessment",
    "Box",
    "Annotation",
    "AnnotationSet",
    "Cohort",
    "CohortSummary",
    "DecodedCache",
    "DicomReader",
    "Entry",
    "FoldPlace",
    "LeftOut",
    "Lesion",
    "Marker",
    "MarkerRule",
    "MESH_SUFFIXES",
    "PADDING",
    "Patches",
    "Preprocessing",
    "Problem",
    "Record",
    "Role",
    "Scale",
    "SplitSummary",
    "SurfaceOptions",
    "Task",
    "Visit",
    "VECTOR_INPUTS",
    "WINDOWS",
    "absolute_address",
    "assess",
    "assign_folds",
    "assign_splits",
    "by_subject",
    "check_folds",
    "composite_response",
    "crop",
    "category_numbers",
    "clip_boxes",
    "image_files",
    "is_detection",
    "is_dicom",
    "manifest_markers",
    "manifest_name",
    "input_shape",
    "inspect_cohort",
    "localise",
    "manifest_rows",
    "marker_values",
    "open_cohort",
    "parse_markers",
    "paste",
    "parse_profile",
    "parse_window",
    "read_coco",
    "read_detection",
    "read_image",
    "read_native",
    "read_pool",
    "read_visits",
    "recist_response",
    "training_scales",
    "volume_spacing",
    "without_markers",
    "read_voc",
    "segmentation",
    "split_by_time",
    "structured_report",
    "write_coco",
    "write_mask",
    "write_native",
    "write_voc",
]
