"""The journal: each step is durably spent before its batch is drawn."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from reticent.errors import InputError
from reticent.records.files import flush_folder


class Journal:
    """Append-only record of started steps; one line a step, flushed to the disk before `start_step` returns.

    A line torn by a kill counts as a started step: what may have been drawn is spent. The file is locked while open.

    Raises:
        InputError: another process has the journal open, or it holds more steps than planned.
    """

    def __init__(self, path: Path, planned: int) -> None:
        self.path, self.planned = path, planned
        self._file = path.open("a", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise InputError(f"{path}: the run is being trained by another process; wait for it or stop it") from None
        flush_folder(path.parent)
        text = path.read_text(encoding="utf-8")
        self.started = len(text.splitlines())
        if self.started > planned:
            self._file.close()
            raise InputError(
                f"{path}: {self.started} steps started, but only {planned} planned; the journal was altered"
            )
        if text and not text.endswith("\n"):
            self._write("\n")

    def start_step(self) -> int:
        """Spend the next step and return its index (0-based).

        Raises:
            InputError: every planned step has been spent, or the disk is full (the step may count as spent).
        """
        if self.started >= self.planned:
            raise InputError(f"{self.path}: all {self.planned} planned steps are spent; start a new run")
        step = self.started
        self.started += 1
        self._write(json.dumps({"step": step}) + "\n")
        return step

    def _write(self, text: str) -> None:
        try:
            self._file.write(text)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise InputError(
                f"{self.path}: could not be written ({error.strerror}).\n"
                "Make room; the run continues with `reticent train --resume RUN`."
            ) from error

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # a line that did not fit on the disk was reported when it was written
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
