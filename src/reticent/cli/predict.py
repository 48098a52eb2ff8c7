"""`reticent predict`: a run's model on new images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from reticent.cli.console import console, print_warning
from reticent.cli.left_out import left_out_words
from reticent.cli.train_options import pairs
from reticent.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from reticent.data import SurfaceOptions
    from reticent.data.surfaces import Mesh
    from reticent.records import SliceExplanation
    from reticent.training import Predictor


def command(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    files: Annotated[
        list[str],
        typer.Argument(
            help="Images, NIfTI volumes, meshes, folders of them, a manifest; to classify also DICOM folders or a "
            "MedMNIST set; of surfaces also surfaces:ADDRESS."
        ),
    ],
    column: Annotated[
        list[str] | None, typer.Option(help="File column of a manifest, as file=NAME (default: as in training).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="CSV or JSON file (default: CSV on screen); for masks the folder to write to.")
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(help="New folder for what each slice gave (runs of --model slices), or each vertex of a surface."),
    ] = None,
) -> None:
    """Predict probabilities or numbers (CSV or JSON), or masks as NIfTI in the geometry of each input."""
    from reticent.data import image_files
    from reticent.records import RunFolder, whole_folder
    from reticent.training import Predictor

    folder = RunFolder.open(run)
    predictor = Predictor(folder)
    columns = folder.study().cohort.columns | pairs("column", column or ())
    if predictor.task.segments:
        if explain is not None:
            raise InputError("--explain is about classes; this run draws masks")
        _write_masks(
            predictor, [path for name in files for _, path in image_files(name, columns)], out or Path("masks")
        )
        return
    if out is not None and out.suffix not in (".csv", ".json"):
        raise InputError(f"{out}: name a .csv or .json file")
    if out is not None and out.exists():
        raise InputError(f"{out}: exists already; choose another --out")
    for option, path in (("--out", out), ("--explain", explain)):
        if path is not None and not path.parent.is_dir():
            raise InputError(f"{path}: no folder {path.parent}; make it, or choose another {option}")
    rows = []
    with nullcontext() if explain is None else whole_folder(explain, "--explain") as aside:
        for address in files:
            for found in _records(predictor, address, columns):
                rows.append({"file": found.name, **_said(predictor, found)})
                if aside is not None:
                    _explain(predictor, found, aside / f"{len(rows):04d}_{_stem(found.name)}")
    _write_rows(rows, out)
    if out is not None:
        console.print(f"{len(rows)} rows -> {out}", highlight=False, markup=False, soft_wrap=True)


class _Found(NamedTuple):
    """A record to predict on; of a surface also its mesh."""

    name: str
    inputs: Mapping[str, np.ndarray]
    spacing: tuple[float, ...] | None
    mesh: Mesh | None = None


def _records(predictor: Predictor, address: str, columns: Mapping[str, str]) -> Iterator[_Found]:
    from reticent.data import image_files, is_dicom, open_cohort, read_image

    if predictor.surfaces is not None:
        yield from _surfaces(predictor, predictor.surfaces, address, columns)
    elif address.lower().endswith(".npz") or address.startswith(("medmnist:", "phantom:")) or is_dicom(address):
        cohort = open_cohort(address, unit="record", strict=False, hashed=False)
        if cohort.left_out:
            print_warning(left_out_words(cohort), UserWarning)
        for i, entry in enumerate(cohort.entries):
            record = cohort.load(i)
            yield _Found(entry.key, record.inputs, record.spacing)
    else:
        for name, path in image_files(address, columns):
            image, affine = read_image(path)
            yield _Found(name, {predictor.input_name: image}, _spacing(affine))


def _surfaces(
    predictor: Predictor, options: SurfaceOptions, address: str, columns: Mapping[str, str]
) -> Iterator[_Found]:
    from reticent.data import MESH_SUFFIXES, image_files, open_cohort
    from reticent.data.surfaces import is_bundle, read_surface

    preparation = options.preparation()
    if address.startswith("surfaces:") or is_bundle(address):
        cohort = open_cohort(address, surfaces=options, unit="record", strict=False, hashed=False)
        found = ((entry.key, entry.locator.surface) for entry in cohort.entries)
    else:
        found = ((name, partial(read_surface, path)) for name, path in image_files(address, columns, MESH_SUFFIXES))
    for name, read in found:
        mesh = read()
        yield _Found(name, {predictor.input_name: preparation.pack(mesh, name)}, None, mesh)


def _said(predictor: Predictor, found: _Found) -> dict[str, float]:
    """What the model says of a record, by name: numbers in their units, or probabilities."""
    if predictor.task.kind == "regression":
        return predictor.numbers(found.inputs, found.spacing)
    return predictor.probabilities(found.inputs, found.spacing)


def _explain(predictor: Predictor, found: _Found, path: Path) -> None:
    from reticent.data.surfaces import write_ply

    if found.mesh is None:
        _write_explanation(predictor.explanation(found.inputs, found.spacing), found.name, path)
        return
    mesh, values = predictor.sensitivity(found.mesh, found.name)
    write_ply(path.with_name(f"{path.name}.ply"), mesh, values)


def _spacing(affine: np.ndarray | None) -> tuple[float, ...] | None:
    from nibabel.affines import voxel_sizes

    return None if affine is None else tuple(float(size) for size in voxel_sizes(affine))


def _write_explanation(found: SliceExplanation, name: str, path: Path) -> None:
    """A picture and a table, `path` with .png and .csv."""
    from reticent.records import write_text
    from reticent.report import save_slice_figure

    write_text(path.with_name(f"{path.name}.csv"), found.to_csv(), mode=0o600)
    save_slice_figure(found, f"{name}: {found.classes[found.predicted]}", path.with_name(f"{path.name}.png"))


def _stem(name: str) -> str:
    """The name without folders and suffixes, in letters that every file system takes."""
    return re.sub(r"[^\w-]+", "_", Path(name).name.split(".")[0])


def _write_masks(predictor: Predictor, files: list[Path], folder: Path) -> None:
    from reticent.data import read_image, write_mask

    targets = [folder / f"{path.name.removesuffix('.gz').rpartition('.')[0]}_mask.nii.gz" for path in files]
    for k, target in enumerate(targets):
        if target in targets[:k]:
            raise InputError(f"{files[k]}: another file has this name; predict on one folder at a time")
        if target.exists():
            raise InputError(f"{target}: exists already; choose another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from error
    for path, target in zip(files, targets, strict=True):
        image, affine = read_image(path)
        write_mask(target, predictor.mask({predictor.input_name: image}, _spacing(affine)), path)
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
