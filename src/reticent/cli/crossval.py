"""`reticent crossval`: variants of a study compared on small cohorts by nested cross-validation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reticent.cli.console import console, progress
from reticent.cli.sweep import register_backend, values_of


def command(
    study: Annotated[Path, typer.Argument(help="A study.toml, of which the variants under sweep are compared.")],
    over: Annotated[
        list[str] | None,
        typer.Option(help="Values to choose from inside each fold, as training.learning_rate=0.003,0.01; repeatable."),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Outer folds of patients.")] = 5,
    inner: Annotated[int, typer.Option(min=2, help="Folds inside each, to choose options by.")] = 3,
    repeats: Annotated[int, typer.Option(min=1, help="Times that all is repeated with other folds.")] = 1,
    selection_noise: Annotated[
        float, typer.Option(min=0.1, help="Of a private study: noise multiplier of each choice.")
    ] = 4.0,
    out: Annotated[Path, typer.Option(help="Folder; named again, it goes on.")] = Path("crossval"),
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 1,
    backend: Annotated[str, typer.Option(help="joblib's: loky, or that of a cluster (dask, ray).")] = "loky",
    ledger: Annotated[Path | None, typer.Option(help="Site ledger, or $RETICENT_LEDGER.")] = None,
) -> None:
    """Compare a study's variants on patients whom neither their training nor their search saw.

    Every fold and every search is a run of its own, charged to those it trained on; their sum is stated.

    Example: reticent crossval study.toml --over training.learning_rate=0.003,0.01 --folds 5 --repeats 3
    """
    from reticent.cli.train_options import file_values
    from reticent.records import make_sweep, write_text
    from reticent.report import crossval_cells, latex, markdown, save_crossval_figure
    from reticent.training import Folds, cross_validate

    sweep = make_sweep(file_values(study), str(study), dict(map(values_of, over or ())), 1)
    register_backend(backend)
    try:
        with progress() as advance:
            record = cross_validate(
                sweep, Folds(folds, inner, repeats), out, ledger=ledger, jobs=jobs, backend=backend,
                selection_noise=selection_noise, progress=advance,
            )  # fmt: skip
    except KeyboardInterrupt:
        console.print("Finished runs are kept; the same command goes on.")
        raise
    cells = crossval_cells(record)
    write_text(out / "table.md", markdown(cells), mode=0o600)
    write_text(out / "table.tex", latex(cells), mode=0o600)
    save_crossval_figure(record, out / "auroc.svg")
    print_cells(cells)
    for sentence in record.readings():
        console.print(sentence, highlight=False, markup=False)
    console.print(
        f"All {record.runs} runs and the choices among them, for the patient in most of them: epsilon {record.epsilon} "
        f"at delta = {record.epsilon.delta:g}, mu {record.mu}. The scores above are not covered.",
        highlight=False,
    )
    console.print(f"Stays inside: {out}", highlight=False, markup=False, soft_wrap=True)


def print_cells(cells: list[list[str]]) -> None:
    """A table on the screen; its first row is the header."""
    from rich.table import Table

    header, *rows = cells
    table = Table(*header)
    for row in rows:
        table.add_row(*row)
    console.print(table)
