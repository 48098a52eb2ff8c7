import csv
import os

import numpy as np
import pytest
from PIL import Image

os.environ.pop("COLUMNS", None)  # pytest-xdist's own width, which consoles would keep from when they are made


@pytest.fixture(autouse=True)
def site_ledger(tmp_path, monkeypatch):
    """Every test has a site ledger and a cache of its own."""
    path = tmp_path / "site" / "ledger.sqlite"
    monkeypatch.setenv("RETICENT_LEDGER", str(path))
    monkeypatch.setenv("RETICENT_CACHE", str(tmp_path / "site" / "cache"))
    return path


@pytest.fixture
def write_cohort(tmp_path):
    """Writes images of 16 x 16 and a manifest: patients with 1 to 3 images each, label and sex, in given splits."""

    def write(name="clinic", patients=30, header="file,subject,label,sex,split", shade=True):
        folder = tmp_path / name
        (folder / "images").mkdir(parents=True)
        rows = [header]
        for patient in range(patients):
            split = ("val", "test")[patient % 2] if patient % 5 == 0 else "train"
            for image in range(1 + patient % 3):
                pixels = np.random.default_rng((patient, image)).integers(0, 100, (16, 16), np.uint8)
                pixels[4:12, 4:12] += np.uint8(100 * (patient // 2 % 2) * shade)
                Image.fromarray(pixels).save(folder / "images" / f"{patient}-{image}.png")
                rows.append(f"{patient}-{image}.png,patient {patient},{patient // 2 % 2},{'fm'[patient % 2]},{split}")
        (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
        return folder / "manifest.csv"

    return write


@pytest.fixture
def write_pool(write_cohort):
    """Writes a cohort of which the training patients have no labels; its manifest, and the label of every file."""

    def write(**options):
        manifest = write_cohort(**options)
        with manifest.open() as file:
            rows = list(csv.DictReader(file))
        write_rows(manifest, [row if row["split"] != "train" else {**row, "label": ""} for row in rows])
        return manifest, {row["file"]: row["label"] for row in rows}

    return write


@pytest.fixture
def fill():
    """Fills in the labels of a sheet, as a person would; its rows as they were."""

    def fill(sheet, truth):
        with sheet.open() as file:
            rows = list(csv.DictReader(file))
        write_rows(sheet, [{**row, "label": truth[row["file"].rpartition("/")[2]]} for row in rows])
        return rows

    return fill


def write_rows(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
