"""Writing files so that no half-written one is ever found under its name."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reticent.errors import InputError


def write_file(path: Path, write: Callable[[Path], object], mode: int | None = None) -> None:
    """Let `write` fill a file beside `path`, of these permissions from the start, flush it to the disk and rename it.

    Raises:
        InputError: the disk is full or not writable; `path` is as it was before.
    """
    aside = path.with_name(f".{path.name}.partial")
    try:
        if mode is not None:
            aside.touch(mode=mode)
        write(aside)
        _flush(aside)
        aside.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise _not_saved(path, error) from error


def write_text(path: Path, text: str, mode: int | None = None) -> None:
    """`write_file` for text."""
    write_file(path, lambda aside: aside.write_text(text, encoding="utf-8"), mode)


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


@contextmanager
def whole_folder(path: Path, option: str) -> Iterator[Path]:
    """A folder to write to (mode 0700), which takes its name `path` at the end; an error or Ctrl-C leaves nothing.

    Raises:
        InputError: `path` exists, or the folder cannot be made; names `option` as what to change.
    """
    if path.exists():
        raise InputError(f"{path}: exists already; choose another {option}")
    aside = path.with_name(f".{path.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        aside.chmod(0o700)
        yield aside
        aside.rename(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another {option}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Rows as CSV; other keys are left out, missing ones empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


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


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _not_saved(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: could not be saved ({error.strerror or error}); nothing half-written was left.\n"
        "Make room or choose another --out; an interrupted run continues with `reticent train --resume RUN`."
    )
