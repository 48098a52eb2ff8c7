"""`reticent predict`: a run's model on new images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reticent.cli.console import console
from reticent.errors import InputError

if TYPE_CHECKING:
    from reticent.records import CohortOptions
    from reticent.training import Predictor


def command(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    files: Annotated[list[str], typer.Argument(help="Images or NIfTI volumes, or a cohort as for `train`.")],
    out: Annotated[
        Path | None, typer.Option(help="CSV or JSON file (default: CSV on screen); for masks the folder to write to.")
    ] = None,
) -> None:
    """Predict probabilities (CSV or JSON), or masks as NIfTI in the geometry of each input."""
    from reticent.records import RunFolder
    from reticent.training import Predictor

    folder = RunFolder.open(run)
    predictor = Predictor(folder)
    if predictor.task.segments:
        _write_masks(predictor, [Path(name) for name in files], out or Path("masks"))
        return
    if out is not None and out.suffix not in (".csv", ".json"):
        raise InputError(f"{out}: name a .csv or .json file")
    if out is not None and out.exists():
        raise InputError(f"{out}: exists already; choose another --out")
    rows = [
        {"file": name, **dict(zip(predictor.task.classes, values, strict=True))}
        for name, values in _probabilities(predictor, files, folder.study().cohort)
    ]
    _write_rows(rows, out)


def _probabilities(
    predictor: Predictor, files: list[str], trained_on: CohortOptions
) -> Iterator[tuple[str, list[float]]]:
    from reticent.data import open_cohort, read_image

    for name in files:
        manifest = name.lower().endswith((".csv", ".parquet"))
        if manifest or name.lower().endswith(".npz") or ":" in name or Path(name).is_dir():
            columns, labels = (trained_on.columns, trained_on.labels) if manifest else (None, None)
            cohort = open_cohort(name, columns=columns, labels=labels, unit="record", strict=False)
            for i, entry in enumerate(cohort.entries):
                yield entry.key, predictor.probabilities(cohort.load(i).inputs)
        else:
            yield name, predictor.probabilities({predictor.input_name: read_image(Path(name))[0]})


def _write_masks(predictor: Predictor, files: list[Path], folder: Path) -> None:
    from reticent.data import read_image, write_mask

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from error
    for path in files:
        image, _ = read_image(path)
        target = folder / f"{path.name.removesuffix('.gz').rpartition('.')[0]}_mask.nii.gz"
        if target.exists():
            raise InputError(f"{target}: exists already; choose another --out")
        write_mask(target, predictor.mask({predictor.input_name: image}), path)
        console.print(f"{path} -> {target}", highlight=False, soft_wrap=True)


def _write_rows(rows: list[dict[str, Any]], out: Path | None) -> None:
    import csv
    import io

    from reticent.records import write_json, write_text

    if out is not None and out.suffix == ".json":
        write_json(out, rows)
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: f"{v:.6f}" if isinstance(v, float) else v for key, v in row.items()} for row in rows)
    if out is None:
        print(text.getvalue(), end="")
    else:
        write_text(out, text.getvalue())
