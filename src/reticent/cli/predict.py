"""`reticent predict`: a run's model on new images."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from reticent.cli.console import console, print_warning
from reticent.cli.left_out import left_out_words
from reticent.cli.surfaces import read_surfaces
from reticent.cli.train_options import pairs
from reticent.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from reticent.data import Cohort
    from reticent.data.surfaces import Mesh
    from reticent.records import SliceExplanation
    from reticent.training import Predictor


def command(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    files: Annotated[
        list[str],
        typer.Argument(
            help="Images, NIfTI volumes, meshes, folders of them, a manifest, DICOM folders; to classify also a "
            "MedMNIST set, of surfaces also surfaces:ADDRESS."
        ),
    ],
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="Column of a manifest, as file=NAME, or of a DICOM table, as PatientID=NAME (default: as in training)."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="CSV or JSON file (default: CSV on screen); for boxes JSON; for masks the folder to write to."
        ),
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(
            help="New folder for what each slice or vertex gave (networks on them), or pictures of the boxes."
        ),
    ] = None,
    sr: Annotated[
        Path | None, typer.Option("--sr", help="New folder for a DICOM structured report on each DICOM record.")
    ] = None,
) -> None:
    """Predict probabilities or numbers (CSV, JSON), boxes (COCO JSON), or masks in each input's geometry.

    Masks are NIfTI, of DICOM input DICOM SEG.
    """
    from reticent.data import image_files, is_dicom
    from reticent.records import RunFolder, whole_folder, write_file
    from reticent.training import Predictor

    folder = RunFolder.open(run)
    predictor = Predictor(folder)
    columns = folder.study().cohort.columns | pairs("column", column or ())
    model = f"reticent {folder.state().run}"
    if predictor.task.kind == "restoration":
        raise InputError(
            f"{run}: restores hidden parts of images, and predicts nothing; start others from it (--init-from)"
        )
    if predictor.task.output == "boxes":
        from reticent.cli.predict_boxes import write_boxes

        if sr is not None:
            raise InputError("--sr is about classes; this run finds boxes")
        write_boxes(predictor, files, columns, out, explain)
        return
    if predictor.task.segments:
        if explain is not None or sr is not None:
            raise InputError("--explain and --sr are about classes; this run draws masks")
        folder_out, dicom = out or Path("masks"), [address for address in files if is_dicom(address)]
        paths = [path for name in files if name not in dicom for _, path in image_files(name, columns)]
        _make_folder(folder_out)
        _write_masks(predictor, paths, folder_out)
        for address in dicom:
            _write_segmentations(predictor, _opened(address, columns, {}), folder_out, model)
        return
    if sr is not None and predictor.task.kind == "regression":
        raise InputError("--sr reports probabilities of classes; this run predicts numbers: leave it out")
    if out is not None and out.suffix not in (".csv", ".json"):
        raise InputError(f"{out}: name a .csv or .json file")
    require_new(out, explain, sr)
    rows: list[dict[str, Any]] = []
    with (
        nullcontext() if explain is None else whole_folder(explain, "--explain") as aside,
        nullcontext() if sr is None else whole_folder(sr, "--sr") as reports,
    ):
        for address in files:
            for found in records(predictor, address, columns):
                path = None if aside is None else aside / f"{len(rows) + 1:04d}_{stem(found.name)}"
                values = _said(predictor, found) if path is None else _explained(predictor, found, path)
                rows.append({"file": found.name, **values})
                if reports is not None:
                    if found.report is None:
                        raise InputError(f"{found.name}: --sr writes DICOM for DICOM records; leave it out")
                    write_file(reports / f"{len(rows):04d}.dcm", found.report(values, model), mode=0o600)
    _write_rows(rows, out)
    if out is not None:
        console.print(f"{len(rows)} rows -> {out}", highlight=False, markup=False, soft_wrap=True)


def require_new(out: Path | None, explain: Path | None, sr: Path | None = None) -> None:
    """Raise InputError for a file that exists, and for what has no folder to lie in, before anything is read."""
    if out is not None and out.exists():
        raise InputError(f"{out}: exists already; choose another --out")
    for option, path in (("--out", out), ("--explain", explain), ("--sr", sr)):
        if path is not None and not path.parent.is_dir():
            raise InputError(f"{path}: no folder {path.parent}; make it, or choose another {option}")


class Found(NamedTuple):
    """A record to predict on, with its mesh where it is one.

    `report` makes a writer of a structured report from values and the model's name.
    """

    name: str
    inputs: Mapping[str, np.ndarray]
    spacing: tuple[float, ...] | None
    report: Callable[[Mapping[str, float], str], Callable[[Path], object]] | None = None
    mesh: Mesh | None = None


def records(predictor: Predictor, address: str, columns: Mapping[str, str]) -> Iterator[Found]:
    """The records at an address."""
    from reticent.data import (
        MANIFEST_SUFFIXES,
        DicomReader,
        image_files,
        is_dicom,
        manifest_markers,
        read_image,
        structured_report,
        volume_spacing,
        without_markers,
    )

    if predictor.surfaces is not None:
        for name, inputs, mesh in read_surfaces(predictor, predictor.surfaces, address, columns):
            yield Found(name, inputs, None, mesh=mesh)
    elif address.lower().endswith(".npz") or address.startswith(("medmnist:", "phantom:")) or is_dicom(address):
        cohort = _opened(address, columns, predictor.markers)
        images = without_markers(cohort)
        for i, entry in enumerate(images.entries):
            record, report = cohort.load(i), None
            if isinstance(images.reader, DicomReader):
                report = partial(structured_report, images.reader.root, entry.locator.series)
            yield Found(entry.key, record.inputs, record.spacing, report)
    else:
        files = image_files(address, columns)
        beside: list[dict[str, np.ndarray]] = [{} for _ in files]
        if predictor.markers and address.lower().endswith(MANIFEST_SUFFIXES):
            beside = manifest_markers(address, columns, predictor.markers)
        for (name, path), vectors in zip(files, beside, strict=True):
            image, affine = read_image(path)
            yield Found(name, {predictor.input_name: image, **vectors}, volume_spacing(affine))


def _opened(address: str, columns: Mapping[str, str], markers: Mapping[str, str]) -> Cohort:
    """The cohort at an address, of DICOM with the markers in its table."""
    from reticent.data import is_dicom, open_cohort

    if not is_dicom(address):
        columns = markers = {}
    cohort = open_cohort(address, columns=columns, markers=markers, unit="record", predicting=True, hashed=False)
    if cohort.left_out:
        print_warning(left_out_words(cohort), UserWarning)
    return cohort


def _said(predictor: Predictor, found: Found) -> dict[str, float]:
    """What the model says of a record, by name: numbers in their units, or probabilities."""
    if predictor.task.kind == "regression":
        return predictor.numbers(found.inputs, found.spacing)
    return predictor.probabilities(found.inputs, found.spacing)


def _explained(predictor: Predictor, found: Found, path: Path) -> dict[str, float]:
    """What the model says of a record; where that comes from is written to `path`."""
    from reticent.data.surfaces import write_ply
    from reticent.records import write_file

    if found.mesh is None:
        values, explanation = predictor.explained(found.inputs, found.spacing)
        _write_explanation(explanation, found.name, path)
        return values
    mesh, vertices = predictor.sensitivity(found.mesh, found.name)
    write_file(path.with_name(f"{path.name}.ply"), lambda aside: write_ply(aside, mesh, vertices), mode=0o600)
    return _said(predictor, found)


def _write_explanation(found: SliceExplanation, name: str, path: Path) -> None:
    """A picture and a table, `path` with .png and .csv."""
    from reticent.records import write_text
    from reticent.report import save_slice_figure

    write_text(path.with_name(f"{path.name}.csv"), found.to_csv(), mode=0o600)
    save_slice_figure(found, f"{name}: {found.classes[found.predicted]}", path.with_name(f"{path.name}.png"))


def stem(name: str) -> str:
    """The name without folders and suffixes, in letters that every file system takes."""
    return re.sub(r"[^\w-]+", "_", Path(name).name.split(".")[0])


def _write_segmentations(predictor: Predictor, cohort: Cohort, folder: Path, model: str) -> None:
    from reticent.data import DicomReader, segmentation
    from reticent.records import write_file

    assert isinstance(cohort.reader, DicomReader)
    for i, entry in enumerate(cohort.entries):
        target = folder / f"{entry.key.replace('#', '_')}.dcm"
        if target.exists():
            raise InputError(f"{target}: exists already; choose another --out")
        record, series = cohort.load(i), entry.locator.series
        mask = predictor.mask(record.inputs, record.spacing)
        write_file(target, segmentation(cohort.reader.root, series, mask, predictor.task.classes, model), mode=0o600)
        console.print(f"{entry.key} -> {target}", highlight=False, soft_wrap=True)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from error


def _write_masks(predictor: Predictor, files: list[Path], folder: Path) -> None:
    from reticent.data import read_image, volume_spacing, write_mask

    targets = [folder / f"{path.name.removesuffix('.gz').rpartition('.')[0]}_mask.nii.gz" for path in files]
    for k, target in enumerate(targets):
        if target in targets[:k]:
            raise InputError(f"{files[k]}: another file has this name; predict on one folder at a time")
        if target.exists():
            raise InputError(f"{target}: exists already; choose another --out")
    for path, target in zip(files, targets, strict=True):
        image, affine = read_image(path)
        write_mask(target, predictor.mask({predictor.input_name: image}, volume_spacing(affine)), path)
        console.print(f"{path} -> {target}", highlight=False, soft_wrap=True)


def _write_rows(rows: list[dict[str, Any]], out: Path | None) -> None:
    from reticent.records import csv_text, write_json, write_text

    if out is not None and out.suffix == ".json":
        write_json(out, rows, mode=0o600)
        return
    shown = ({key: f"{v:.6f}" if isinstance(v, float) else v for key, v in row.items()} for row in rows)
    text = csv_text(list(rows[0]), shown)
    if out is None:
        print(text, end="")
    else:
        write_text(out, text, mode=0o600)
