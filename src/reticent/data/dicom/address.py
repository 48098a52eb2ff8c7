"""The address of a DICOM cohort: a folder, and declared rules for what is taken from it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from reticent.data.addresses import read_address
from reticent.data.files import READABLE_SUFFIXES
from reticent.errors import InputError

SCHEME = "dicom:"
_LOOKED_AT = 200  # files, to tell whether a folder holds DICOM
_PATHS = ("labels", "subjects")


@dataclass(frozen=True)
class Rules:
    """What is taken from the folder, and how.

    `modality` is one of DICOM's codes; `description`, `exclude` and `kernel` are regular expressions searched in the
    series description (the first two) and the kernel, without case. `thickness` bounds the slice thickness (mm).
    `per` is what one record is kept of: each study, patient or series. `slices` is the least number of a volume's
    slices. `derived` and `voi` say whether derived images are kept and the file's own windows applied. `labels` and
    `subjects` are tables.
    """

    labels: Path | None = None
    subjects: Path | None = None
    modality: str | None = None
    description: re.Pattern[str] | None = None
    exclude: re.Pattern[str] | None = None
    kernel: re.Pattern[str] | None = None
    thickness: tuple[float, float] | None = None
    per: Literal["study", "patient", "series"] | None = None
    slices: int = 3
    derived: bool = False
    voi: bool = False


def is_dicom(uri: str) -> bool:
    """Whether this is an address of a DICOM cohort, or a folder whose first known files are DICOM."""
    if uri.startswith(SCHEME):
        return True
    if not Path(uri).is_dir():
        return False
    looked = 0
    for folder, names, files in os.walk(uri):
        names[:] = sorted(name for name in names if not name.startswith((".", "__")))
        for name in sorted(files):
            if name == "DICOMDIR" or _has_mark(Path(folder) / name):
                return True
            if name.lower().endswith(READABLE_SUFFIXES):
                return False
            looked += 1
            if looked == _LOOKED_AT:
                return False
    return False


def parse_address(uri: str) -> tuple[Path, Rules]:
    """The folder and the rules of `dicom:FOLDER?rule=value&…`, or of a folder alone.

    Without a `labels` or `subjects` rule, the folder's own labels.csv and subjects.csv are taken, if there are any; the
    value "none" takes none.
    Raises InputError for a folder that is none, an unknown rule or a value that does not fit.
    """
    root, given = read_address(uri, SCHEME, _PARSERS)
    if not root.is_dir():
        raise InputError(f"{uri}: no folder {root}; write dicom:FOLDER or dicom:FOLDER?rule=value&rule=value")
    for name in _PATHS:
        own = root / f"{name}.csv"
        if name not in given:
            given[name] = own if own.is_file() else None
        elif given[name] is not None and not given[name].is_file():
            raise InputError(f"{uri}: {name}={given[name]}: no such file; correct the path, or say {name}=none")
    return root, Rules(**given)


def _has_mark(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _table(text: str) -> Path | None:
    return None if text == "none" else Path(text)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


def _thickness(text: str) -> tuple[float, float]:
    low, found, high = text.partition("-")
    try:
        bounds = (float(low), float(high if found else low))
    except ValueError:
        raise ValueError("write one thickness in mm, or two as 1-2.5") from None
    if not 0 <= bounds[0] <= bounds[1]:
        raise ValueError("the first thickness must not be above the second")
    return bounds


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise ValueError("write a whole number from 2 up")
    return int(text)


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"say {' or '.join(choices)}")
        return text

    return parse


_PARSERS: dict[str, Callable[[str], Any]] = {
    "labels": _table,
    "subjects": _table,
    "modality": str.upper,
    "description": _pattern,
    "exclude": _pattern,
    "kernel": _pattern,
    "thickness": _thickness,
    "per": _one_of("study", "patient", "series"),
    "slices": _count,
    "derived": lambda text: _one_of("keep", "reject")(text) == "keep",
    "voi": lambda text: _one_of("file", "none")(text) == "file",
}
