"""`reticent data`: what a cohort holds, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from reticent.cli.console import console, print_json, progress
from reticent.cli.train_options import study_values
from reticent.errors import InputError

if TYPE_CHECKING:
    from reticent.data import Cohort, CohortSummary, LeftOut


def command(
    cohort: Annotated[str, typer.Argument(help="As for `reticent train`.")],
    unit: Annotated[str, typer.Option(help="subject or record.")] = "subject",
    label: Annotated[list[str] | None, typer.Option(help="Label column; several for multi-label.")] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Number to predict, as NAME=LOW,HIGH with its possible range.")
    ] = None,
    column: Annotated[list[str] | None, typer.Option(help="Column of a manifest, as subject=patient_id.")] = None,
    marker: Annotated[
        list[str] | None, typer.Option(help="Column beside the image, as crp=log,0..500 or sex=f|m; repeatable.")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Allow fetching a MedMNIST set.")] = False,
    ledger: Annotated[Path | None, typer.Option(help="Site ledger, whose key draws the splits.")] = None,
    left_out: Annotated[
        Path | None, typer.Option(help="CSV file to write (yours alone): what is no record of the cohort, and why.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Inspect a cohort: subjects, shapes, labels, markers, missing values, subjects and duplicates across splits.

    Reads every image. What it prints describes private patients: it is for you, not for release.
    """
    from reticent.data import assign_splits, inspect_cohort, open_cohort, parse_markers
    from reticent.governance import Ledger, ledger_path

    if unit not in ("subject", "record"):
        raise InputError(f"--unit {unit}: say subject or record")
    values, _ = study_values(cohort, {"column": column, "label": label, "target": target, "marker": marker})
    options = values["cohort"]
    if left_out is not None and (left_out.exists() or not left_out.parent.is_dir()):
        raise InputError(f"{left_out}: exists already, or its folder does not; choose another --left-out")
    with progress() as advance:
        opened = open_cohort(
            options["uri"],
            columns=options.get("columns"),
            labels=options.get("labels"),
            markers=options.get("markers"),
            targets=options.get("targets"),
            unit=unit,  # type: ignore[arg-type]
            download=download,
            strict=False,
            progress=advance,
        )
    if left_out is not None:
        _write_left_out(opened, left_out)
    if all(entry.split is not None for entry in opened.entries):
        splits = [str(entry.split) for entry in opened.entries]
    elif any(entry.subject is None for entry in opened.entries):
        splits = ["all"] * len(opened.entries)
    else:
        with Ledger.open(ledger_path(ledger)) as site:
            splits = assign_splits(opened, site.derive_key("split"))
    with progress() as advance:
        markers = parse_markers(options.get("markers") or {})
        summary = inspect_cohort(opened, splits, lambda done, total: advance("Reading", done, total), markers)
    if as_json:
        from dataclasses import asdict

        shapes = {"x".join(map(str, shape)): count for shape, count in summary.shapes.items()}
        print_json({"cohort": opened.name, "task": opened.task, "unit": unit, **asdict(summary), "shapes": shapes})
        return
    _print(opened, summary, unit)


def _print(cohort: Cohort, summary: CohortSummary, unit: str) -> None:
    from rich.table import Table

    console.print(
        f"{cohort.name}: {cohort.task}, {cohort.ndim}-D, inputs "
        + ", ".join(f"{name} (channels: {channels})" for name, channels in cohort.channels.items()),
        style="bold",
        highlight=False,
        markup=False,
    )
    if cohort.citation:
        console.print(f"{cohort.licence}. {cohort.citation}", style="dim", highlight=False)
    if unit == "record":
        console.print(f"{summary.records:,} records, each its own subject: unit record protects single images only")
    elif summary.subjects is None:
        console.print("no subjects: training needs --unit record, which protects single images only", style="yellow")
    else:
        low, middle, high = summary.records_per_subject or (0, 0, 0)
        console.print(
            f"{summary.subjects:,} subjects, {summary.records:,} records "
            f"({low} to {high} per subject, median {middle:g})"
        )
    if unit == "subject" and cohort.subjects_assumed is not None:
        console.print(f"assumed: {cohort.subjects_assumed}", style="yellow", highlight=False, markup=False)
    shapes = sorted(summary.shapes.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{' x '.join(map(str, shape))} ({count:,})" for shape, count in shapes[:5])
    console.print(f"shapes: {listed}" + (f" and {len(shapes) - 5} more" if len(shapes) > 5 else ""))
    table = Table("split", "subjects", "records", "labels")
    for name, split in summary.splits.items():
        labels = ", ".join(f"{label}: {count:,}" for label, count in split.labels.items())
        table.add_row(name, f"{split.subjects:,}", f"{split.records:,}", labels)
    console.print(table)
    _print_markers(summary)
    _problems("missing values", [f"{name}: {count} records" for name, count in summary.missing.items() if count])
    _problems("subjects in more than one split", [f"{s}: {', '.join(i)}" for s, i in summary.overlapping.items()])
    _problems("identical images in different splits", [" = ".join(keys) for keys in summary.duplicates])
    _problems("unreadable", [reason for _, reason in summary.unreadable])
    _problems("text suspected in the pixels", list(summary.text_suspected))
    for title, lines in summary.remarks.items():
        _problems(title, list(lines))
    _print_left_out(summary)


def _print_markers(summary: CohortSummary) -> None:
    from rich.table import Table

    if not summary.markers:
        return
    table = Table("marker", "missing", "least", "median", "largest", "categories")
    for name, marker in summary.markers.items():
        spread = ["", "", ""] if marker.spread is None else [f"{value:g}" for value in marker.spread]
        counts = ", ".join(f"{category}: {count:,}" for category, count in marker.counts.items())
        table.add_row(escape(name), f"{marker.missing:,}", *spread, escape(counts))
    console.print(table)


def _print_left_out(summary: CohortSummary) -> None:
    from rich.table import Table

    if not summary.left_out:
        return
    found: dict[str, list[LeftOut]] = {}
    for each in summary.left_out:
        found.setdefault(each.reason, []).append(each)
    table = Table("reason", "number", "first", title="Left out (--left-out FILE.csv lists all)", title_justify="left")
    for reason, group in sorted(found.items(), key=lambda item: -len(item[1])):
        first = group[0]
        table.add_row(escape(reason), f"{len(group):,}", escape(first.details.get("first file", first.key)))
    console.print(table)


def _write_left_out(cohort: Cohort, path: Path) -> None:
    from reticent.records import csv_text, write_text

    rows = [{"record": each.key, "reason": each.reason, **each.details} for each in cohort.left_out]
    columns = dict.fromkeys(["record", "reason", *(name for row in rows for name in row)])
    write_text(path, csv_text(list(columns), rows), mode=0o600)


def _problems(title: str, lines: list[str]) -> None:
    style = "yellow" if lines else "green"
    console.print(f"{title}: {len(lines)}", style=style)
    for line in lines[:10]:
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    if len(lines) > 10:
        console.print(f"  and {len(lines) - 10} more (--json lists all)")
