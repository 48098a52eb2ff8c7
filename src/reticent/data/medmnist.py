"""MedMNIST files, 2-D and 3-D: NPZ archives with {train,val,test}_images and {train,val,test}_labels."""

import hashlib
import os
import urllib.request
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reticent.data.cohort import Cohort, Entry, Task
from reticent.data.medmnist_sets import CITATION, known_set
from reticent.errors import InputError

OFFICIAL_RECORD = "https://zenodo.org/records/10519652/files"
_SPLITS = ("train", "val", "test")
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True)
class NpzReader:
    """Decodes rows of an NPZ archive; the images of a split are held as stored (uint8) once the first is asked for."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    colour_last: bool
    _images: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def shape(self, locator: tuple[str, int]) -> tuple[int, ...]:
        return self.shapes[locator[0]]

    def spacing(self, locator: tuple[str, int]) -> None:
        return None

    def decode(self, locator: tuple[str, int]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        row = self._row(locator).astype(np.float32) / 255
        return {"image": np.ascontiguousarray(np.moveaxis(row, -1, 0)) if self.colour_last else row[None]}, {}

    def digest(self, locator: tuple[str, int]) -> bytes:
        return hashlib.sha256(self._row(locator).tobytes()).digest()

    def stamp(self, locator: tuple[str, int]) -> str:
        status = self.path.stat()
        return f"{status.st_size}:{status.st_mtime_ns}"

    def _row(self, locator: tuple[str, int]) -> np.ndarray:
        split, row = locator
        if split not in self._images:
            self._images[split] = _array(self.path, f"{split}_images")
        image: np.ndarray = self._images[split][row]
        return image


def open_npz(uri: str) -> Cohort:
    """Open a MedMNIST archive; such a cohort has no subjects.

    Raises InputError if the file has the name of an official set but another MD5, is unreadable or not of this form.
    """
    path = Path(uri)
    if not path.is_file():
        raise InputError(f"{uri}: no such file; correct the path")
    known, md5 = known_set(path.stem)
    if md5 is not None:
        _verify(path, md5)
    splits = [split for split in _SPLITS if _has(path, f"{split}_images")]
    if "train" not in splits:
        raise InputError(f"{uri}: no array train_images; a MedMNIST archive holds {{train,val,test}}_{{images,labels}}")
    shapes = {split: _image_shape(path, split) for split in splits}
    shape = shapes["train"]
    colour_last = len(shape) == 5 or (len(shape) == 4 and shape[-1] in (1, 3))
    spatial = {split: shape[1:-1] if colour_last else shape[1:] for split, shape in shapes.items()}
    labels = {split: _labels(path, split, shapes[split][0]) for split in splits}
    task, classes = _task(path, labels, known.classes if known else None)
    entries = [
        Entry(f"{split}/{row:05d}", None, split, label, {}, (split, row))
        for split in splits
        for row, label in enumerate(_targets(labels[split], task, classes, known is not None))
    ]
    return Cohort(
        uri, path.stem, task, classes, entries, {"image": shape[-1] if colour_last else 1},
        len(shape) - 1 - colour_last, False, NpzReader(path, spatial, colour_last),
        CITATION if known else None, known.licence if known else None,
    )  # fmt: skip


def open_medmnist(uri: str, download: bool) -> Cohort:
    """Open `medmnist:NAME` from $RETICENT_DATA, ./data, ../shared/data/medmnist or ~/.medmnist.

    If it is in none of them and `download` is true, fetch it from the official record into the first (if set) or the
    last. Raises InputError if it is not found, or not to be downloaded since no checksum is known.
    """
    name = uri.removeprefix("medmnist:")
    known, md5 = known_set(name)
    if known is None:
        raise InputError(f"{uri}: no MedMNIST set of that name; give the path of the .npz file instead")
    variable = os.environ.get("RETICENT_DATA")
    store = Path(variable) if variable else Path.home() / ".medmnist"
    folders = [store, Path("data"), Path("../shared/data/medmnist"), Path.home() / ".medmnist"]
    for folder in folders:
        for path in (folder / f"{name}.npz", folder / "medmnist" / f"{name}.npz"):
            if path.is_file():
                return open_npz(str(path))
    if not download:
        raise InputError(
            f"{uri}: not found in {', '.join(map(str, folders))}; put {name}.npz there or say `--download`"
        )
    if md5 is None:
        raise InputError(
            f"{uri}: will not be downloaded, its checksum is not known; fetch {name}.npz and give its path"
        )
    _download(name, md5, store)
    return open_npz(str(store / f"{name}.npz"))


def _download(name: str, md5: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f"{name}.npz.part"
    try:
        urllib.request.urlretrieve(f"{OFFICIAL_RECORD}/{name}.npz", aside)
        _verify(aside, md5)
        aside.replace(folder / f"{name}.npz")
    except OSError as error:
        raise InputError(
            f"medmnist:{name}: the download failed ({error}); try again or fetch {name}.npz by hand"
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def _verify(path: Path, md5: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        raise InputError(
            f"{path}: not the official file (MD5 {found}, official {md5}); altered copies circulate: fetch it anew, "
            "or rename yours if it is meant"
        )


def _has(path: Path, name: str) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return f"{name}.npy" in archive.namelist()
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _image_shape(path: Path, split: str) -> tuple[int, ...]:
    """Shape of the split's image array, from its header alone; raises InputError if it is no stack of uint8 images."""
    name = f"{split}_images"
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    if len(shape) not in (3, 4, 5) or dtype != np.uint8:
        raise InputError(
            f"{path}: {name} is {dtype} {shape}; MedMNIST images are uint8 (n, H, W), (n, H, W, 3) or (n, D, H, W)"
        )
    return shape


def _array(path: Path, name: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as archive:
            array: np.ndarray = archive[name]
            return array
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: not a readable NPZ archive ({error}); fetch it anew")


def _labels(path: Path, split: str, rows: int) -> np.ndarray:
    """Labels as int64 (n,) or (n, k); raises InputError for other kinds, another number of rows, or an empty split."""
    labels = _array(path, f"{split}_labels")
    if rows == 0:
        raise InputError(f"{path}: the split {split} is empty; leave its arrays out")
    if labels.dtype.kind not in "iub" or labels.ndim not in (1, 2):
        raise InputError(f"{path}: {split}_labels is not numeric (n,) or (n, k) but {labels.dtype} {labels.shape}")
    if len(labels) != rows:
        raise InputError(f"{path}: {rows} images but {len(labels)} labels in the split {split}; they must match")
    return (labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels).astype(np.int64)


def _task(path: Path, labels: dict[str, np.ndarray], known: tuple[str, ...] | None) -> tuple[Task, tuple[str, ...]]:
    train = labels["train"]
    if train.ndim == 2:
        if any(not np.isin(values, (0, 1)).all() for values in labels.values()):
            raise InputError(f"{path}: labels of shape (n, {train.shape[1]}) are multi-label and must be 0 or 1")
        return "multi-label", known or tuple(str(k) for k in range(train.shape[1]))
    classes = known or tuple(str(value) for value in np.unique(np.concatenate(list(labels.values()))))
    return ("binary" if len(classes) == 2 else "multi-class"), classes


def _targets(labels: np.ndarray, task: Task, classes: tuple[str, ...], known: bool) -> Sequence[int | tuple[int, ...]]:
    if task == "multi-label":
        return [tuple(row) for row in labels.tolist()]
    if known:
        return [int(value) for value in labels]
    index = {int(name): position for position, name in enumerate(classes)}
    return [index[value] for value in labels.tolist()]
