import sys
from typing import NamedTuple

import nibabel
import numpy as np
import pytest

from reticent.cli import main


class Ended(NamedTuple):
    """How a command ended; in `out` runs of white space are one space, so that wrapping does not matter."""

    code: int
    out: str
    err: str
    printed: str
    """Standard output as it came."""


@pytest.fixture
def reticent(monkeypatch, capsys, tmp_path):
    """Runs a command line in this process, through the program's own way out, in a working directory of its own."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["reticent", *map(str, arguments)])
            patch.setattr(sys, "path", list(sys.path))
            with pytest.raises(SystemExit) as ended:
                main()
        printed, err = capsys.readouterr()
        return Ended(ended.value.code or 0, " ".join(printed.split()), err, printed)

    return run


@pytest.fixture
def small():
    """Options of a job of four steps of a small network, without its privacy target."""
    return ["--steps", "4", "--sampling-rate", "0.3", "--model-argument", "width=8"]


@pytest.fixture
def write_volumes(tmp_path):
    """Writes volumes of 8 x 12 x 4 with a bright organ, their masks and a manifest; axes are swapped and flipped."""
    affine = np.array([[0, 0, -3.0, 40], [1.5, 0, 0, -7], [0, -2.0, 0, 11], [0, 0, 0, 1]])

    def write(name="volumes", patients=10):
        folder = tmp_path / name
        (folder / "images").mkdir(parents=True)
        (folder / "masks").mkdir()
        rows = ["file,subject,mask,split"]
        for patient in range(patients):
            rng = np.random.default_rng(patient)
            organ = np.zeros((8, 12, 4), np.uint8)
            organ[tuple(slice(k, k + n // 2) for k, n in zip(rng.integers(0, 3, 3), organ.shape, strict=True))] = 1
            voxels = (100.0 * organ + rng.normal(0, 1, organ.shape)).astype(np.float32)
            for kind, values in (("images", voxels), ("masks", organ)):
                nibabel.save(nibabel.Nifti1Image(values, affine), folder / kind / f"p.{patient}.nii.gz")
            split = "test" if patient % 5 == 0 else "train"
            rows.append(f"p.{patient}.nii.gz,patient {patient},p.{patient}.nii.gz,{split}")
        (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
        return folder / "manifest.csv"

    return write


@pytest.fixture
def write_npz(tmp_path):
    """Writes a MedMNIST archive: images without subjects, in three splits."""

    def write(records=20):
        rng, arrays = np.random.default_rng(0), {}
        for split in ("train", "val", "test"):
            arrays[f"{split}_images"] = rng.integers(0, 256, (records, 16, 16), np.uint8)
            arrays[f"{split}_labels"] = np.arange(records, dtype=np.uint8)[:, None] % 2
        np.savez(tmp_path / "scans.npz", **arrays)
        return tmp_path / "scans.npz"

    return write
