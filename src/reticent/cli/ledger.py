"""`reticent ledger`: what every patient has spent, verified."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reticent.cli.console import console, print_json
from reticent.errors import InputError


def command(
    runs: Annotated[list[Path] | None, typer.Argument(help="Runs whose anchors the ledger must contain.")] = None,
    ledger: Annotated[Path | None, typer.Option(help="Ledger file, or $RETICENT_LEDGER.")] = None,
    delta: Annotated[float, typer.Option(help="Delta at which epsilon is shown.")] = 1e-5,
    erase: Annotated[
        str | None, typer.Option(help="Erase this subject's rows (its spend is forgotten with them).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Verify the site ledger's hash chain (and the anchors of RUNS) and show entries and spend by patient."""
    from reticent.governance import Ledger, ledger_path
    from reticent.records import RunFolder

    path = ledger_path(ledger)
    if not path.is_file():
        raise InputError(f"{path}: no ledger yet; the first `reticent train` makes it (or name it with --ledger)")
    anchors = [anchor for run in runs or () for anchor in RunFolder.open(run, finished=False).state().anchors]
    with Ledger.open(path) as site:
        site.verify(anchors)
        if erase is not None:
            rows = site.erase(erase)
            if not rows:
                raise InputError(f"{erase!r} is in no row of {path}; subjects are named as in their cohort")
            console.print(f"Erased from {rows} rows; the chain stays valid.")
            return
        entries, spending = site.entries(), site.spending()
    shown = [
        {
            "subjects": group.subjects,
            "runs": list(group.runs),
            **({"unit": group.mechanism.unit, **_spent(group.mechanism, delta)} if group.mechanism is not None else {}),
        }
        for group in spending
    ]
    if as_json:
        from dataclasses import asdict

        print_json({"ledger": str(path), "entries": [asdict(e) for e in entries], "spending": shown, "delta": delta})
        return
    _print(path, entries, shown, len(anchors), delta)


def _spent(mechanism: object, delta: float) -> dict[str, str]:
    from reticent.records import privacy_numbers

    numbers = privacy_numbers(mechanism, delta)  # type: ignore[arg-type]
    return {name: str(numbers[name]) for name in ("epsilon", "mu", "advantage")}


def _print(path: Path, entries: list, shown: list[dict], anchors: int, delta: float) -> None:
    from rich.table import Table

    console.print(f"{path}: {len(entries)} entries, hash chain intact, {anchors} anchors found", soft_wrap=True)
    table = Table("#", "time (UTC)", "event", "run", "cohort", "scope", "mechanism")
    for entry in entries:
        mechanism = (entry.mechanism or {}).get("type", "")
        table.add_row(
            str(entry.number), entry.time[:19], entry.event, entry.run[:8], entry.cohort or "", entry.scope or "",
            mechanism,
        )  # fmt: skip
    console.print(table)
    table = Table("charged", "runs", f"epsilon (delta {delta:g})", "mu", "advantage", title="Spent, by history")
    for group in shown:
        numbers = [group.get(name, "0") for name in ("epsilon", "mu", "advantage")]
        table.add_row(
            f"{group['subjects']} {group.get('unit', 'subject')}s",
            ", ".join(run[:8] for run in group["runs"]),
            *numbers,
        )
    console.print(table)
    console.print(
        "The composed figures hold for jobs planned beforehand; budgets use a filter valid for adaptive jobs."
    )
