"""What `reticent train` and `label` show of a finished run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reticent.cli.console import console
from reticent.launch import own_rank

if TYPE_CHECKING:
    from reticent.records import Metrics, RunFolder


def finish(folder: RunFolder) -> None:
    """Write the report of a finished run, and print its guarantee and where everything is."""
    if own_rank():
        return
    from reticent.report import write_report

    report = write_report(folder)
    _print_result(folder)
    statement = folder.statement()
    leaves = f"What may leave: {folder.release}" if statement.releasable else "Nothing of this run may leave."
    if statement.releasable and statement.excludes_little:
        leaves = f"The guarantee excludes next to nothing: think twice before anything of {folder.release} leaves."
    if folder.study().training.twin:
        console.print("The non-private twin is charged to the same training data as unbounded.", highlight=False)
    console.print(
        f"{leaves}\nReport: {report}\nLedger: {folder.state().ledger}", highlight=False, markup=False, soft_wrap=True
    )


def _print_result(folder: RunFolder) -> None:
    from rich.table import Table

    statement, metrics = folder.statement(), folder.metrics()
    for sentence in statement.words():
        console.print(sentence, highlight=False)
    table = Table("guarantee", "value", "kind", title=f"Privacy (unit: {statement.unit})", title_justify="left")
    for name, number in (
        (f"epsilon at delta = {statement.delta:g}", statement.epsilon),
        (f"mu (both error rates >= {statement.mu.alpha_min:g})", statement.mu),
        ("membership advantage", statement.advantage),
    ):
        table.add_row(name, str(number), number.kind)
    console.print(table)
    if (temperature := folder.state().effective_temperature) is not None:
        console.print(
            f"Langevin sampling at temperature {temperature:.3g} (1: the posterior of the clipped loss), "
            f"{folder.study().training.posterior_samples} samples at most.",
            highlight=False,
        )
    twins: dict[str, Any] = {twin.split: twin for twin in metrics.twin}
    who = "patients" if statement.unit == "subject" else "records"
    title = f"Held-out {who} (NOT covered by the guarantee; unit: {statement.unit})"
    columns = ["metric", *(s.split for s in metrics.splits), *(f"{split}, non-private twin" for split in twins)]
    table = Table(*columns, title=title, title_justify="left")
    shown = [*metrics.splits, *twins.values()]
    positive = f" ({folder.state().classes[1]})" if metrics.task == "binary" else ""
    for name in shown[0].metrics if shown else ():
        table.add_row(
            name + positive * (name == "sensitivity"), *(_interval(split.metrics.get(name)) for split in shown)
        )
    console.print(table)
    _print_references(metrics)


def _print_references(metrics: Metrics) -> None:
    from rich.table import Table

    if metrics.reference_note:
        console.print(metrics.reference_note, highlight=False, markup=False)
    if not metrics.references:
        return
    splits = [split.split for split in metrics.splits]
    table = Table("AUROC without an image", *splits, title="Reference models", title_justify="left")
    for name, own in metrics.references.items():
        table.add_row(name, *(_interval(split.metrics["auroc"]) for split in own))
    console.print(table)


def _interval(measured: Any) -> str:
    if measured is None or measured.value is None:
        return "-"
    if measured.lower is None:
        return f"{measured.value:.3f}"
    return f"{measured.value:.3f} ({measured.lower:.3f} to {measured.upper:.3f})"
