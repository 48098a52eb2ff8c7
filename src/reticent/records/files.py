"""Writing files so that no half-written one is ever found under its name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reticent.errors import InputError


def write_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file beside `path`, flush it to the disk and rename it.

    Raises:
        InputError: the disk is full or not writable; `path` is as it was before.
    """
    aside = path.with_name(f".{path.name}.partial")
    try:
        write(aside)
        _flush(aside)
        aside.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise _not_saved(path, error) from error


def write_text(path: Path, text: str, mode: int | None = None) -> None:
    """`write_file` for text, with the file's permissions."""
    write_file(path, lambda aside: _write_text(aside, text, mode))


def write_json(path: Path, value: Any, mode: int | None = None) -> None:
    """`write_text` for a JSON value; infinities and NaN are refused, they are not JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n", mode)


def write_folder(path: Path, files: Mapping[str, Callable[[Path], object]]) -> None:
    """Write a folder's files aside, then rename the folder; an unfinished earlier attempt is replaced.

    Raises:
        InputError: the disk is full or not writable; `path` does not exist then.
    """
    aside = path.with_name(f".{path.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir()
        for name, write in files.items():
            write(aside / name)
            _flush(aside / name)
        aside.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise _not_saved(path, error) from error


def read_json(path: Path) -> Any:
    """A JSON file's value.

    Raises:
        InputError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; is the run finished?") from None
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); the file was altered") from None


def flush_folder(path: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_text(path: Path, text: str, mode: int | None) -> None:
    if mode is not None:
        path.touch(mode=mode)
    path.write_text(text, encoding="utf-8")


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _not_saved(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: could not be saved ({error.strerror or error}); nothing half-written was left.\n"
        "Make room or choose another --out; an interrupted run continues with `reticent train --resume RUN`."
    )
