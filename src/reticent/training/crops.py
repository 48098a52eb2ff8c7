"""A cohort cut to what a segmentation run finds in its images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image

from reticent.data import (
    Box,
    crop,
    image_files,
    localise,
    manifest_rows,
    read_image,
    volume_spacing,
)
from reticent.errors import InputError
from reticent.records import RunFolder, Study, csv_text, read_json, whole_folder, write_json, write_text
from reticent.training.predictor import Predictor

_RECORD = "localisation.json"
FLAG = "localised"
"""Column of the written manifest: 0 where the mask was empty and the whole image stays."""


def write_crops(
    manifest: Path,
    run: RunFolder,
    out: Path,
    *,
    margin: float,
    share: float,
    public_origin: str | None = None,
    columns: dict[str, str],
    progress: Callable[[str, int, int], None],
) -> tuple[int, int]:
    """Write every image of a manifest cut around the predicted foreground, and its manifest; images, and empty masks.

    Other columns but masks stay as they are, so that labels, subjects and markers come along; `localised` is added.
    Crops of what is trained on must be of predicted masks, as those of new patients will be.

    Raises:
        InputError: the run draws no masks, an image cannot be read, or `out` exists.
    """
    predictor = Predictor(run)
    if not predictor.task.segments:
        raise InputError(f"{run.path}: draws no masks, which localisation needs: name a run of a segmenter")
    table, column = manifest_rows(str(manifest), columns)
    files, flags = image_files(str(manifest), columns), list[str]()
    written = [_written_name(name) for name, _ in files]
    if twice := [name for name in written if written.count(name) > 1]:
        raise InputError(f"{manifest}: two images would both be written as {twice[0]}; rename one")
    with whole_folder(out, "--out") as aside:
        (aside / "images").mkdir()
        for done, (name, path) in enumerate(files, 1):
            image, affine = read_image(path)
            spacing = volume_spacing(affine)
            mask = predictor.mask({predictor.input_name: image}, spacing)
            box = localise(mask, spacing or (1.0,) * mask.ndim, margin, share)
            _write(aside / "images" / _written_name(name), path, image, affine, box)
            flags.append(str(int(box is not None)))
            progress("Localising", done, len(files))
        rows = [
            {**row, column: f"images/{_written_name(name)}", FLAG: flag}
            for row, (name, _), flag in zip(table, files, flags, strict=True)
        ]
        write_text(aside / "manifest.csv", csv_text(list(rows[0]), rows), mode=0o600)
        statement = run.statement()
        record = {
            "run": statement.run, "releasable": statement.releasable, "public_origin": public_origin,
            "margin_mm": margin, "share": share,
        }  # fmt: skip
        write_json(aside / _RECORD, record)
    return len(files), flags.count("0")


def require_private_crops(study: Study) -> None:
    """Refuse a private run on crops that a run without privacy found: they would carry its patients out unprotected.

    Raises:
        InputError: names the manifest.
    """
    path = Path(study.cohort.uri)
    record = path.parent / _RECORD
    if study.privacy.non_private or path.suffix != ".csv" or not record.is_file():
        return
    origin = read_json(record)
    if not origin.get("releasable") and not origin.get("public_origin"):
        raise InputError(
            f"{path}: cut out by a run that is not releasable ({record.name}), so that no guarantee would hold; "
            "localise with a private run, or with one on public masks (--public-origin)"
        )


def _written_name(name: str) -> str:
    """PNG for flat images: JPEG would lose more with every crop."""
    stem = name.replace("/", "_")
    return stem if stem.lower().endswith((".nii", ".nii.gz")) else f"{stem.rpartition('.')[0]}.png"


def _write(target: Path, source: Path, image: np.ndarray, affine: np.ndarray | None, box: Box | None) -> None:
    if affine is None:
        with Image.open(source) as stored:
            part = stored if box is None else stored.crop((box.start[1], box.start[0], box.stop[1], box.stop[0]))
            part.save(target)
        return
    start = np.zeros(3) if box is None else np.array(box.start)
    values = image if box is None else crop(image, box)
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ start
    voxels: Any = values[0] if len(values) == 1 else np.moveaxis(values, 0, 3)
    nibabel.save(nibabel.Nifti1Image(voxels, moved), target)
