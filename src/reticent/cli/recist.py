"""`reticent recist`: categories of response from a table of lesions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from reticent.cli.console import console
from reticent.errors import InputError


def command(
    table: Annotated[
        Path, typer.Argument(help="CSV, one row a lesion and visit: subject, visit, lesion, diameter; see the manual.")
    ],
    out: Annotated[Path | None, typer.Option(help="CSV file of the visits (default: on screen).")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Also write subject and label of the decided subjects, as a cohort needs them.")
    ] = None,
    at: Annotated[
        str, typer.Option(help="Visit that the label is about: first (after the baseline) or last.")
    ] = "first",
    fall: Annotated[float, typer.Option(help="Relative fall of CA 19-9 that is a response.")] = 0.2,
    rise: Annotated[float, typer.Option(help="Relative rise of CA 19-9 that is progress.")] = 0.2,
    reference: Annotated[float, typer.Option(help="Upper limit of normal of CA 19-9, U/ml.")] = 37.0,
) -> None:
    """Categories of response by RECIST 1.1, joined with CA 19-9 and the clinician's view to one label.

    Example: reticent recist lesions.csv --out response.csv --labels labels.csv
    """
    from reticent.data import MarkerRule, assess, by_subject, read_visits
    from reticent.records import csv_text, write_text

    if at not in ("first", "last"):
        raise InputError(f"--at {at!r}: say first or last")
    for option, path in (("--out", out), ("--labels", labels)):
        if path is not None and path.exists():
            raise InputError(f"{path}: exists already; choose another {option}")
    rule = MarkerRule(reference, fall, rise)
    assessed = [assess(visits, rule) for visits in by_subject(read_visits(table))]
    rows = [
        {
            "subject": a.subject, "visit": a.when, "baseline_mm": f"{a.baseline:g}", "nadir_mm": f"{a.nadir:g}",
            "sum_mm": "" if a.total is None else f"{a.total:g}", "recist": a.recist, "marker": a.marker or "",
            "response": a.composite,
        }
        for visits in assessed
        for a in visits
    ]  # fmt: skip
    text = csv_text(list(rows[0]), rows)
    if out is None:
        print(text, end="")
    else:
        write_text(out, text, mode=0o600)
    decided = [visits[0 if at == "first" else -1] for visits in assessed]
    if labels is not None:
        kept = [{"subject": a.subject, "label": a.composite} for a in decided if a.composite != "undetermined"]
        write_text(labels, csv_text(("subject", "label"), kept), mode=0o600)
    for name, values in (("RECIST", [a.recist for a in decided]), ("label", [a.composite for a in decided])):
        counts = ", ".join(f"{value} {count}" for value, count in Counter(values).most_common())
        console.print(f"{name} at the {at} visit of {len(decided)} subjects: {counts}", highlight=False)
