"""`reticent reconcile`: the budgets of a sweep, with what each allows an attacker and what its models are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reticent.cli.console import console, progress


def command(
    sweep: Annotated[Path, typer.Argument(help="Folder of `reticent sweep --over privacy.noise_multiplier=…`.")],
    metric: Annotated[
        str | None, typer.Option(help="Of the performance (auroc; dice of masks, ap50 of boxes, r2 of numbers).")
    ] = None,
    split: Annotated[str, typer.Option(help="Held-out patients of the performance: val or test.")] = "test",
    patients: Annotated[int, typer.Option(min=1, help="Training patients that are attacked.")] = 64,
    batch: Annotated[int, typer.Option(min=1, help="Patients in an attacked step.")] = 16,
    neurons: Annotated[int, typer.Option(min=2, help="Of the malicious layer.")] = 256,
    threshold: Annotated[float, typer.Option(help="Mean squared error (of 0 to 1) that counts as recovered.")] = 1e-3,
    more: Annotated[list[float] | None, typer.Option(help="A noise multiplier without runs; repeatable.")] = None,
    public: Annotated[
        str | None, typer.Option(help="Cohort whose images the adversary has; else the held-out patients.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the attack; drawn and recorded if left out.")] = None,
    ledger: Annotated[Path | None, typer.Option(help="Site ledger, if it was moved.")] = None,
) -> None:
    """Put performance beside the risk of reconstruction, budget by budget, from almost no privacy to much.

    Example: reticent reconcile sweep --more 0.0001 --more 0.001
    """
    from reticent.attacks.reconstruction import ReconstructionOptions, reconcile_sweep
    from reticent.records import write_json
    from reticent.report import save_reconciliation_figure, write_reconciliation

    options = ReconstructionOptions(patients=patients, public=public, seed=seed)
    with progress() as advance:
        record = reconcile_sweep(
            sweep, options, metric=metric, split=split, batch=batch, neurons=neurons, threshold=threshold,
            more=tuple(more or ()), ledger=ledger, progress=advance,
        )  # fmt: skip
    for sentence in record.readings():
        console.print(sentence, highlight=False, markup=False)
    page = sweep / "reconciliation.html"
    write_json(page.with_suffix(".json"), record.model_dump(mode="json", by_alias=True), mode=0o600)
    write_reconciliation(record, page)
    save_reconciliation_figure(record, page.with_suffix(".png"))
    console.print(f"Page (stays inside): {page}", highlight=False, markup=False, soft_wrap=True)
