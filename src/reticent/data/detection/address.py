"""The address of a cohort with boxes: a folder or COCO file, and declared rules."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reticent.data.addresses import read_address
from reticent.data.detection.coco import coco_files
from reticent.data.detection.native import lists_in
from reticent.data.detection.voc import is_voc
from reticent.errors import InputError

SCHEME = "boxes:"
MOST = 40


@dataclass(frozen=True)
class Rules:
    """What is declared of a cohort with boxes.

    `table` has a row for each image (`read_image_table`); `subject_pattern` is a regular expression whose first group,
    searched in the file name, is the subject. `classes` are those that count, in their order (None: all that are
    found). `most` is the public maximum of objects an image. Images from `val_from` and `test_from` on (seconds since
    1970, UTC) are held out, and nothing is drawn. `one_based`: corners are those of the VOC challenge.
    """

    table: Path | None = None
    subject_pattern: re.Pattern[str] | None = None
    classes: tuple[str, ...] | None = None
    most: int = MOST
    val_from: float | None = None
    test_from: float | None = None
    one_based: bool = False


def is_detection(uri: str) -> bool:
    """Whether this is an address of a cohort with boxes, or a VOC folder, COCO file or folder, or folder of lists."""
    return uri.startswith(SCHEME) or kind_of(Path(uri)) is not None


def kind_of(path: Path) -> str | None:
    """ "voc", "coco" or "native"; None for anything else."""
    if is_voc(path):
        return "voc"
    if coco_files(path):
        return "coco"
    return "native" if lists_in(path) else None


def parse_address(uri: str) -> tuple[Path, Rules]:
    """The path and the rules of `boxes:PATH?rule=value&…`, or of a path alone.

    Raises InputError for a path without boxes, an unknown rule or a value that does not fit.
    """
    path, given = read_address(uri, SCHEME, _PARSERS)
    rules = Rules(**{name.replace("-", "_"): value for name, value in given.items()})
    if kind_of(path) is None:
        raise InputError(
            f"{uri}: no boxes at {path}; name a VOC folder (JPEGImages, Annotations), a COCO file (.json) or folder, "
            "or a folder with files.txt"
        )
    if rules.table is not None and not rules.table.is_file():
        raise InputError(f"{uri}: table={rules.table}: no such file; correct the path")
    if rules.val_from is not None and (rules.test_from is None or rules.test_from <= rules.val_from):
        raise InputError(f"{uri}: val-from needs a later test-from")
    return path, rules


def _pattern(text: str) -> re.Pattern[str]:
    pattern = re.compile(text)
    if pattern.groups < 1:
        raise ValueError("put what tells subjects apart in brackets, as ([^_]+)_")
    return pattern


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if "" in names or len(set(names)) < len(names):
        raise ValueError("name each class once, with commas between")
    return names


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise ValueError("write a whole number from 1 to 1000")
    return int(text)


def _day(text: str) -> float:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("write a day as 2018-05-12, or with a time as 2018-05-12T18:00") from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _yes_or_no(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError("say yes or no")
    return text == "yes"


_PARSERS: dict[str, Callable[[str], Any]] = {
    "table": Path, "subject-pattern": _pattern, "classes": _names, "most": _count, "val-from": _day,
    "test-from": _day, "one-based": _yes_or_no,
}  # fmt: skip
