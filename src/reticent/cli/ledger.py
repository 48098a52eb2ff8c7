"""`reticent ledger`: what every patient has spent, verified."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reticent.cli.console import console, print_json
from reticent.errors import InputError

if TYPE_CHECKING:
    from reticent.accounting import Mechanism
    from reticent.governance import Entry, Ledger


def command(
    runs: Annotated[list[Path] | None, typer.Argument(help="Runs whose anchors the ledger must contain.")] = None,
    ledger: Annotated[Path | None, typer.Option(help="Ledger file, or $RETICENT_LEDGER.")] = None,
    delta: Annotated[float, typer.Option(help="Delta at which epsilon is shown.")] = 1e-5,
    subject: Annotated[str | None, typer.Option(help="Show what one subject has spent, and in which runs.")] = None,
    erase: Annotated[
        str | None, typer.Option(help="Erase this subject's rows (its spend is forgotten with them).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Verify the site ledger's hash chain (and the anchors of RUNS) and show entries and spend by patient."""
    from reticent.governance import Ledger, ledger_path
    from reticent.records import RunFolder

    path = ledger_path(ledger)
    if not path.is_file() and not path.with_name(f"{path.name}.key").is_file():
        raise InputError(f"{path}: no ledger yet; the first `reticent train` makes it (or name it with --ledger)")
    anchors = [anchor for run in runs or () for anchor in RunFolder.open(run, finished=False).state().anchors]
    with Ledger.open(path) as site:
        site.verify(anchors)
        if erase is not None or subject is not None:
            _one_subject(site, str(erase or subject), delta, erase=erase is not None)
            return
        entries, spending = site.entries(), site.spending()
    shown = [
        {
            "subjects": group.subjects,
            "runs": list(group.runs),
            **({} if group.mechanism is None else _circumstances(group.mechanism) | _spent(group.mechanism, delta)),
        }
        for group in spending
    ]
    if as_json:
        from dataclasses import asdict

        print_json({"ledger": str(path), "entries": [asdict(e) for e in entries], "spending": shown, "delta": delta})
        return
    _print(path, entries, shown, len(anchors), delta)


def _one_subject(site: Ledger, subject: str, delta: float, *, erase: bool) -> None:
    runs, spent = site.runs(subject), site.spent_by_relation(subject)
    if not runs:
        raise InputError(f"{subject!r} is in no row of the ledger; subjects are named as in their cohort")
    if erase:
        rows = site.erase(subject)
        console.print(
            f"Erased from {rows} rows; the chain stays valid. These runs trained on the subject and still list"
        )
        console.print("its pseudonym in private/subjects.csv; their models are as they were:")
    else:
        several = len(spent) > 1
        texts = [
            ", ".join(f"{name} {value}" for name, value in _spent(composed, delta).items())
            + f" under {composed.neighbouring_relation}" * several
            for composed in spent
        ]
        apart = " (which do not add up)" * several
        console.print(("; ".join(texts) or "spent nothing") + apart + f" (delta {delta:g}), in the runs:")
    console.print("\n".join(runs), highlight=False)


def _circumstances(mechanism: Mechanism) -> dict[str, str]:
    return {"unit": mechanism.unit, "neighbouring_relation": mechanism.neighbouring_relation}


def _spent(mechanism: object, delta: float) -> dict[str, str]:
    from reticent.records import privacy_numbers

    numbers = privacy_numbers(mechanism, delta)  # type: ignore[arg-type]
    return {name: str(numbers[name]) for name in ("epsilon", "mu", "advantage")}


def _print(path: Path, entries: list, shown: list[dict], anchors: int, delta: float) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    found = f", the {anchors} anchors of the runs found" if anchors else ""
    console.print(f"{path}: {len(entries)} entries, hash chain intact{found}", markup=False, soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in ("#", "UTC", "event", "run", "cohort", "scope", "mechanism"):
        table.add_column(name, overflow="fold")
    for entry in entries:
        table.add_row(
            str(entry.number), entry.time[:16].replace("T", " "), entry.event, entry.run[:8], entry.cohort or "",
            entry.scope or "", _mechanism(entry),
        )  # fmt: skip
    console.print(table)
    table = Table("charged", "runs", f"epsilon (delta {delta:g})", "mu", "advantage", title="Spent, by history")
    for group in shown:
        numbers = [group.get(name, "0") for name in ("epsilon", "mu", "advantage")]
        table.add_row(
            f"{group['subjects']} {group.get('unit', 'subject')}s"
            + ", replace-one" * (group.get("neighbouring_relation") == "replace-one"),
            ", ".join(run[:8] for run in group["runs"]),
            *numbers,
        )
    console.print(table)
    console.print(
        "The composed figures hold for jobs planned beforehand; budgets use a filter valid for adaptive jobs."
    )


def _mechanism(entry: Entry) -> str:
    """The mechanism's type and constants, and the budget that it put in force."""
    shown = [] if entry.mechanism is None else _constants(entry.mechanism)
    if entry.budget:
        shown.append("budget " + ", ".join(f"{name} {value:g}" for name, value in entry.budget.items()))
    return "; ".join(shown)


def _constants(mechanism: dict[str, Any]) -> list[str]:
    if "mechanisms" in mechanism:
        return [text for part in mechanism["mechanisms"] for text in _constants(part)]
    names = {
        "epsilon": "epsilon",
        "noise_multiplier": "noise",
        "sampling_rate": "rate",
        "bands": "bands",
        "steps": "steps",
    }
    values = [f"{short} {mechanism[name]:.4g}" for name, short in names.items() if name in mechanism]
    return [", ".join(values) or mechanism["type"]]
