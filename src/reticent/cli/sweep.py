"""`reticent sweep`: one study with some options varied, several runs of each, and a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from reticent.cli.console import console, progress
from reticent.errors import InputError


def command(
    study: Annotated[Path, typer.Argument(help="A study.toml, which may vary options in a table named sweep.")],
    over: Annotated[
        list[str] | None, typer.Option(help="Values of an option, as training.learning_rate=0.003,0.01; repeatable.")
    ] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Runs of each configuration (1).")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the sweep; named again, it goes on.")] = Path("sweep"),
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 1,
    backend: Annotated[str, typer.Option(help="joblib's: loky, or that of a cluster (dask, ray).")] = "loky",
    split: Annotated[str, typer.Option(help="Held-out patients that the table is about: val or test.")] = "val",
    metric: Annotated[
        str | None, typer.Option(help="Of the table (auroc; dice of masks, ap50 of boxes, 'NAME r2' of numbers).")
    ] = None,
    ledger: Annotated[Path | None, typer.Option(help="Site ledger, or $RETICENT_LEDGER.")] = None,
) -> None:
    """Run a study over values of its options; every run is charged to the ledger like any other.

    Choosing by the result spends what all runs spent: each is in the ledger of these patients.

    Example: reticent sweep runs/clinic-001/study.toml --over training.learning_rate=0.003,0.01 --repeats 3
    """
    from reticent.cli.train_options import file_values
    from reticent.records import headline, make_sweep, write_text
    from reticent.report import latex_table, markdown_table
    from reticent.training import run_sweep, summary

    sweep = make_sweep(file_values(study), str(study), dict(map(values_of, over or ())), repeats)
    console.print(f"{len(sweep.configurations)} configurations x {sweep.repeats} runs -> {out}", highlight=False)
    register_backend(backend)
    try:
        with progress() as advance:
            results = run_sweep(
                sweep, out, ledger=ledger, jobs=jobs, backend=backend,
                progress=lambda done, total: advance("Runs", done, total),
            )  # fmt: skip
    except KeyboardInterrupt:
        console.print("Finished runs are kept; the same command goes on.")
        raise
    metric = metric or headline([str(name) for name in results])
    table = summary(results, split, metric)
    for name, render in (("table.md", markdown_table), ("table.tex", latex_table)):
        write_text(out / name, render(table, metric))
    console.print(markdown_table(table, metric), markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"Metrics of private patients: {out}/results.parquet, table.md and table.tex stay inside the hospital.",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def values_of(item: str) -> tuple[str, list[Any]]:
    """PATH=VALUE,VALUE: each a TOML value, else text."""
    import tomllib

    path, found, text = item.partition("=")
    if not found:
        raise InputError(f"--over {item!r}: write it as section.option=VALUE,VALUE")
    try:
        return path, tomllib.loads(f"values = [{text}]")["values"]
    except tomllib.TOMLDecodeError:
        return path, text.split(",")


def register_backend(backend: str) -> None:
    """Ray registers its back end on demand; joblib knows dask's and its own."""
    if backend != "ray":
        return
    try:
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise InputError("--backend ray: the package ray is not installed; install it, or use loky") from error
    register_ray()
