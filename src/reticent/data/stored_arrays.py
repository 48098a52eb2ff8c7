"""Arrays of one type and any shapes, one after another in a memory-mapped file, by number."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np


class ArrayWriter:
    """Appends arrays to `NAME.bin`, and at the end writes their shapes and type to `NAME.npz`; a context manager.

    Plain writes, not a writable memory map: a full disk then raises an error, and not a bus error.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._shapes, self._type = path, list[tuple[int, ...]](), ""
        self._file = path.with_suffix(".bin").open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._file.close()
        if error is None:
            np.savez(self._path.with_suffix(".npz"), shapes=np.asarray(self._shapes, np.int64), type=self._type)

    def append(self, array: np.ndarray, at: int | None = None) -> None:
        """Of the same type and number of axes as those before; as number `at`, with empty ones up to there."""
        self._type = array.dtype.str
        if at is not None:
            self._shapes += [(0,) * array.ndim] * (at - len(self._shapes))
        self._shapes.append(array.shape)
        self._file.write(np.ascontiguousarray(array).tobytes())


class StoredArrays:
    """What an `ArrayWriter` wrote; `[i]` is a view of the file."""

    def __init__(self, path: Path) -> None:
        with np.load(path.with_suffix(".npz")) as index:
            self._shapes, dtype = index["shapes"], np.dtype(str(index["type"]))
        self._ends = np.cumsum(self._shapes.prod(1, dtype=np.int64))
        empty = not self._ends[-1]  # which cannot be mapped
        self._values = np.zeros(0, dtype) if empty else np.memmap(path.with_suffix(".bin"), dtype, mode="r")

    def __len__(self) -> int:
        """Up to the last that was written."""
        return len(self._shapes)

    def __getitem__(self, i: int) -> np.ndarray:
        end, shape = self._ends[i], tuple(self._shapes[i].tolist())
        return self._values[end - int(np.prod(shape)) : end].reshape(shape)

    def stack(self, rows: Sequence[int]) -> np.ndarray:
        """A copy of arrays of one shape, along a new first axis."""
        if not len(rows):
            return np.zeros((0, *self._shapes[0]), self._values.dtype)
        return np.stack([self[i] for i in rows])
