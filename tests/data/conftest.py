from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def shared() -> Callable[[str], Path]:
    def find(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"the data bundle is absent ({name})")
        return SHARED / name

    return find


@pytest.fixture
def save_image() -> Callable[..., np.ndarray]:
    """Writes a random grey image, of its own seed, so that every file differs."""

    def save(path: Path, seed: int = 0, shape: tuple[int, ...] = (9, 7)) -> np.ndarray:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
        Image.fromarray(pixels).save(path)
        return pixels

    return save


@pytest.fixture
def make_manifest(tmp_path: Path, save_image) -> Callable[..., Path]:
    """Writes a manifest with the given header and rows; row i names the image i.png, which is written too."""

    def make(header: str, *rows: str, images: int | None = None) -> Path:
        for i in range(len(rows) if images is None else images):
            save_image(tmp_path / "images" / f"{i}.png", seed=i)
        path = tmp_path / "manifest.csv"
        path.write_text("\n".join((header, *rows)) + "\n")
        return path

    return make


@pytest.fixture
def save_volume() -> Callable[..., None]:
    def save(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine), path)

    return save


@pytest.fixture
def make_msd(tmp_path: Path, save_volume) -> Callable[..., Path]:
    """Writes an MSD folder with the given image and mask of each case."""

    def make(*cases: tuple[np.ndarray, np.ndarray]) -> Path:
        listed = []
        for i, (image, mask) in enumerate(cases):
            save_volume(tmp_path / "msd" / "imagesTr" / f"case_{i}.nii.gz", image)
            save_volume(tmp_path / "msd" / "labelsTr" / f"case_{i}.nii.gz", mask)
            names = f'"image": "./imagesTr/case_{i}.nii.gz", "label": "./labelsTr/case_{i}.nii.gz"'
            listed.append("{" + names + "}")
        description = (
            '{"name": "Toy", "labels": {"0": "background", "1": "organ"}, "numTraining": 99, "training": [%s]}'
        )
        (tmp_path / "msd" / "dataset.json").write_text(description % ",".join(listed))
        return tmp_path / "msd"

    return make
