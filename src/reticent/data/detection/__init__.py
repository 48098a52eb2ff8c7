"""Boxes of objects in images: PASCAL VOC, COCO and the form of the Oktoberfest Food data set."""

from reticent.data.detection.address import is_detection
from reticent.data.detection.annotation import Annotation, AnnotationSet, Problem
from reticent.data.detection.coco import category_numbers, read_coco, write_coco
from reticent.data.detection.geometry import Placement, clip_boxes
from reticent.data.detection.native import OKTOBERFEST_CLASSES, read_native, write_native
from reticent.data.detection.opening import open_detection, read_detection
from reticent.data.detection.voc import read_voc, write_voc

__all__ = [
    "OKTOBERFEST_CLASSES",
    "Annotation",
    "AnnotationSet",
    "Placement",
    "Problem",
    "category_numbers",
    "clip_boxes",
    "is_detection",
    "open_detection",
    "read_coco",
    "read_detection",
    "read_native",
    "read_voc",
    "write_coco",
    "write_native",
    "write_voc",
]
