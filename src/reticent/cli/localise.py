"""`reticent localise`: a cohort cut to what a segmentation run finds in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reticent.cli.console import console, print_warning, progress


def command(
    manifest: Annotated[Path, typer.Argument(help="Manifest (CSV) of the images to cut.")],
    run: Annotated[Path, typer.Option(help="Run folder of a segmenter.")],
    out: Annotated[Path, typer.Option(help="New folder for the cut images and their manifest.")],
    margin: Annotated[float, typer.Option(min=0, help="At least so many mm around it (pixels in flat images).")] = 10.0,
    share: Annotated[float, typer.Option(min=0, help="Or this share of its longest side, if that is more.")] = 0.3,
    public_origin: Annotated[
        str | None, typer.Option(help="Declared source of what the run was trained on, if that was public.")
    ] = None,
    column: Annotated[list[str] | None, typer.Option(help="File column of the manifest, as file=NAME.")] = None,
) -> None:
    """Cut every image around the largest part that a run's masks find, for a classifier that looks there alone.

    Example: reticent localise cohort/manifest.csv --run runs/organ-001 --out crops
    """
    from reticent.cli.train_options import pairs
    from reticent.records import RunFolder
    from reticent.training import write_crops

    folder = RunFolder.open(run)
    columns = folder.study().cohort.columns | pairs("column", column or ())
    with progress() as advance:
        images, empty = write_crops(
            manifest,
            folder,
            out,
            margin=margin,
            share=share,
            public_origin=public_origin,
            columns=columns,
            progress=advance,
        )
    console.print(f"{images} images -> {out / 'manifest.csv'}", highlight=False, markup=False, soft_wrap=True)
    if empty:
        console.print(f"Nothing was found in {empty} of them: these stay whole, marked localised = 0.", highlight=False)
    if public_origin is None and not folder.statement().releasable:
        print_warning(
            f"{run} was trained without a guarantee: what it cut out depends on its patients, and private runs on that "
            "are refused",
            UserWarning,
        )
