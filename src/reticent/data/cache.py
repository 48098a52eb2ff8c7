"""Decoded and preprocessed records in memory-mapped files, so that training reads each original once."""

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np

from reticent.data.cohort import DECODED_TARGETS, Cohort, Record
from reticent.data.markers import PADDING
from reticent.data.preprocess import Preprocessing
from reticent.data.stored_arrays import ArrayWriter, StoredArrays
from reticent.errors import InputError

Progress = Callable[[int, int], None]
_LAYOUT = 2
_ABANDONED_AFTER = 3600.0  # seconds without a write


class DecodedCache:
    """All records of a cohort, preprocessed, read from `folder` without decoding again.

    `cache[i]` is a Record and `cache.batch(indices)` stacks several. They have one shape; `ragged` allows others where
    the preprocessing leaves sizes open. The files are built once, aside, and renamed when complete; another state of
    the cohort's files or another preprocessing gets files of its own. The folder is readable by its owner only.
    """

    def __init__(
        self,
        cohort: Cohort,
        preprocessing: Preprocessing,
        folder: Path,
        progress: Progress | None = None,
        *,
        build: bool = True,
        ragged: bool = False,
    ) -> None:
        """Open the cache of `cohort` in `folder`, building it if needed with `progress(done, total)` after each record.

        Raises InputError for a record that cannot be decoded, for records of different shapes after preprocessing, for
        a full disk, and with `build=False` (nothing is written) where no cache of these records is found.
        """
        self._cohort = cohort
        built = folder / _fingerprint(cohort, preprocessing)
        if not build and not built.is_dir():
            raise InputError(
                f"{folder}: no decoded images of this cohort's files are visible here; put the cohort and the run "
                "folder on storage that all machines of the run share"
            )
        if build:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        if not built.is_dir():
            _build(cohort, preprocessing, built, progress, ragged)
        self._inputs = {name: StoredArrays(built / f"input-{name}") for name in _names(cohort, preprocessing)}
        targets = built.glob("target-*.bin")
        self._targets = {path.stem.removeprefix("target-"): StoredArrays(path.with_suffix("")) for path in targets}
        self._labelled = np.load(built / "labelled.npy")

    def __len__(self) -> int:
        return len(self._cohort.entries)

    def __getitem__(self, i: int) -> Record:
        """Record `i`, preprocessed."""
        entry = self._cohort.entries[i]
        inputs, targets = self.batch([i])
        return Record(
            entry.subject or entry.key,
            {name: stack[0] for name, stack in inputs.items()},
            {name: stack[0] for name, stack in targets.items()},
            entry.attributes,
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return tuple(self._inputs)

    def view(self, name: str, i: int) -> np.ndarray:
        """Record `i`'s input of a name, or the target that was decoded with it: a view of the file."""
        return self._inputs[name][i] if name in self._inputs else self._targets[name][i]

    @property
    def has_masks(self) -> bool:
        """Whether any record has one."""
        return "mask" in self._targets

    def has_mask(self, i: int) -> bool:
        """Whether record `i` has one."""
        stored = self._targets.get("mask")
        return stored is not None and i < len(stored) and stored[i].size > 0

    def labelled(self, indices: Sequence[int]) -> bool:
        """Whether all of these records have targets."""
        return bool(self._labelled[[int(i) for i in indices]].all())

    def batch(self, indices: Sequence[int]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Inputs (n, C, ...) and targets (n, ...) of the records `indices`; no targets if one of them is unlabelled.

        Of a guided cohort always both targets: a label of -1, or a mask of -1 throughout, is one that is not there.
        """
        rows = [int(i) for i in indices]
        inputs = {name: stored.stack(rows) for name, stored in self._inputs.items()}
        if self._cohort.guided:
            return inputs, {"label": self._labels(rows), "mask": self._masks(rows)}
        if not self.labelled(rows):
            return inputs, {}
        if self._cohort.task in DECODED_TARGETS:
            return inputs, {name: _widened(stored.stack(rows)) for name, stored in self._targets.items()}
        return inputs, {"label": self._labels(rows)}

    def _labels(self, rows: Sequence[int]) -> np.ndarray:
        return self._cohort.labels([self._cohort.entries[i] for i in rows])

    def _masks(self, rows: Sequence[int]) -> np.ndarray:
        spatial = next(iter(self._inputs.values()))[0].shape[1:]
        masks = np.full((len(rows), *spatial), -1, np.int64)
        for mask, row in zip(masks, rows, strict=True):
            if self.has_mask(row):
                mask[:] = self._targets["mask"][row]
        return masks


def _widened(values: np.ndarray) -> np.ndarray:
    return values.astype(np.int64) if values.dtype.kind in "iu" else values


def _names(cohort: Cohort, preprocessing: Preprocessing) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*cohort.channels, *((PADDING,) if preprocessing.mark_padding else ()))))


def _fingerprint(cohort: Cohort, preprocessing: Preprocessing) -> str:
    digest = hashlib.sha256()
    settings = [_LAYOUT, cohort.task, cohort.guided, dict(cohort.channels), asdict(preprocessing)]
    digest.update(json.dumps(settings).encode())
    for i, entry in enumerate(cohort.entries):
        digest.update(json.dumps([entry.key, entry.label is None, cohort.stamp(i)]).encode())
    return digest.hexdigest()[:32]


def _build(cohort: Cohort, preprocessing: Preprocessing, built: Path, progress: Progress | None, ragged: bool) -> None:
    if preprocessing.size is None and not ragged:
        _require_equal_shapes(cohort)
    for stale in built.parent.glob(f"{built.name}.part-*"):
        # A killed build leaves its files behind; one still being written belongs to another process.
        if time.time() - max(path.stat().st_mtime for path in (stale, *stale.iterdir())) > _ABANDONED_AFTER:
            shutil.rmtree(stale, ignore_errors=True)
    aside = Path(tempfile.mkdtemp(prefix=f"{built.name}.part-", dir=built.parent))
    try:
        _write(cohort, preprocessing, aside, progress, ragged)
        aside.rename(built)
    except OSError as error:
        if built.is_dir():  # another process finished the same cache first
            return
        raise InputError(
            f"{built.parent}: the decoded images could not be saved ({error.strerror}); free space, or choose a "
            "smaller --image-size"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _require_equal_shapes(cohort: Cohort) -> None:
    first = cohort.shape(0)
    for i, entry in enumerate(cohort.entries):
        if cohort.shape(i) != first:
            raise _different(cohort.entries[0].key, first, entry.key, cohort.shape(i))


def _different(key: str, shape: tuple[int, ...], other: str, other_shape: tuple[int, ...]) -> InputError:
    return InputError(
        f"images differ in size: {key} is {' x '.join(map(str, shape))}, "
        f"{other} is {' x '.join(map(str, other_shape))}; "
        "give one size with --image-size"
    )


def _write(cohort: Cohort, preprocessing: Preprocessing, folder: Path, progress: Progress | None, ragged: bool) -> None:
    total = len(cohort.entries)
    labelled, shapes = np.zeros(total, bool), dict[str, tuple[int, ...]]()
    mask_type = np.min_scalar_type(len(cohort.classes))
    with ExitStack() as files:
        names = _names(cohort, preprocessing)
        inputs = {name: files.enter_context(ArrayWriter(folder / f"input-{name}")) for name in names}
        targets = dict[str, ArrayWriter]()
        for i in range(total):
            record = preprocessing.apply(cohort.load(i))
            for name, array in record.inputs.items():
                if array.shape != shapes.setdefault(name, array.shape) and not ragged:
                    raise _different(cohort.entries[0].key, shapes[name][1:], cohort.entries[i].key, array.shape[1:])
                inputs[name].append(array)
            for name, array in record.targets.items():
                if name == "label":
                    continue
                if name not in targets:
                    targets[name] = files.enter_context(ArrayWriter(folder / f"target-{name}"))
                targets[name].append(array.astype(mask_type) if name == "mask" else array, at=i)
            labelled[i] = bool(record.targets)
            if progress is not None:
                progress(i + 1, total)
    np.save(folder / "labelled.npy", labelled)
