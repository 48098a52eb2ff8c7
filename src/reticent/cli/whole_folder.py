"""A folder that is there whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reticent.errors import InputError


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write to (mode 0700), which takes its name `path` at the end; an error or Ctrl-C leaves nothing.

    Raises:
        InputError: `path` exists, or the folder cannot be made.
    """
    if path.exists():
        raise InputError(f"{path}: exists already; choose another folder")
    aside = path.with_name(f".{path.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(mode=0o700)
        yield aside
        aside.rename(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another folder") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
