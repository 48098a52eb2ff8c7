"""`reticent label`: which patients' images to label next, with one guarantee for selection and training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reticent.cli.console import console, progress
from reticent.cli.train_options import given_flags, study_values
from reticent.cli.train_result import finish
from reticent.errors import InputError
from reticent.launch import launched_together

if TYPE_CHECKING:
    from reticent.training.active import ActivePlan
    from reticent.training.active.campaign import Campaign, NextBatch

_PLAN, _MODEL, _JOB = "Plan", "Cohort and model", "Job"
_ROUGH_RATE, _EPOCHS = 0.2, 20
Option = typer.Option


def command(
    cohort: Annotated[
        str, typer.Argument(help="Manifest (CSV, Parquet) with an empty label column; or a campaign to go on with.")
    ],
    query_sizes: Annotated[
        str | None, Option(help="Patients to label before each phase, as 100,50,50.", rich_help_panel=_PLAN)
    ] = None,
    classes: Annotated[
        str | None, Option(help="What a label may be, as healthy,ill; public.", rich_help_panel=_PLAN)
    ] = None,
    epsilon: Annotated[float | None, Option(help="Of everything, with --delta.", rich_help_panel=_PLAN)] = None,
    delta: Annotated[float | None, Option(help="Below 1 / patients.", rich_help_panel=_PLAN)] = None,
    selection_epsilon: Annotated[
        float | None, Option(help="Of the scores of all rounds together.", rich_help_panel=_PLAN)
    ] = None,
    strategy: Annotated[
        str | None,
        Option(help="random (default; costs nothing), entropy, least-confidence, margin, bald.", rich_help_panel=_PLAN),
    ] = None,
    schedule: Annotated[
        str | None,
        Option(help="step-amplification (default), or naive: the same rate for everybody.", rich_help_panel=_PLAN),
    ] = None,
    batch_size: Annotated[
        int | None, Option(help="Patients of a step on average (a fifth of the first batch).", rich_help_panel=_PLAN)
    ] = None,
    epochs: Annotated[
        int | None, Option(help="Of each phase, before amplification (20).", rich_help_panel=_PLAN)
    ] = None,
    max_norm: Annotated[float | None, Option(help="Clip norm of a patient (1).", rich_help_panel=_PLAN)] = None,
    max_records_per_subject: Annotated[
        int | None, Option(help="Images of a patient used per step (4).", rich_help_panel=_PLAN)
    ] = None,
    budget: Annotated[
        str | None, Option(help="Refuse what exceeds it over all jobs, as for train.", rich_help_panel=_PLAN)
    ] = None,
    seed: Annotated[
        int | None, Option(help="Repeatable noise, for tests; not releasable.", rich_help_panel=_PLAN)
    ] = None,
    label: Annotated[str | None, Option(help="Label column.", rich_help_panel=_MODEL)] = None,
    column: Annotated[
        list[str] | None, Option(help="Column of the manifest, as subject=patient_id.", rich_help_panel=_MODEL)
    ] = None,
    image_size: Annotated[str | None, Option(help="Pixels, as 64 or 32x48x32.", rich_help_panel=_MODEL)] = None,
    normalise: Annotated[str | None, Option(help="As for train.", rich_help_panel=_MODEL)] = None,
    grey: Annotated[bool, Option("--grey", help="Colour to grey.", rich_help_panel=_MODEL)] = False,
    model: Annotated[str | None, Option(help="As for train.", rich_help_panel=_MODEL)] = None,
    model_argument: Annotated[
        list[str] | None, Option(help="Argument of the network, as width=32.", rich_help_panel=_MODEL)
    ] = None,
    init_from: Annotated[Path | None, Option(help="Public first weights.", rich_help_panel=_MODEL)] = None,
    init_origin: Annotated[str | None, Option(help="Their declared source.", rich_help_panel=_MODEL)] = None,
    optimiser: Annotated[str | None, Option(help="nadam (default), adam or sgd.", rich_help_panel=_MODEL)] = None,
    learning_rate: Annotated[float | None, Option(help="First learning rate (0.01).", rich_help_panel=_MODEL)] = None,
    augment: Annotated[str | None, Option(help="light (default) or none.", rich_help_panel=_MODEL)] = None,
    out: Annotated[Path | None, Option(help="Campaign folder (campaign-COHORT).", rich_help_panel=_JOB)] = None,
    ledger: Annotated[Path | None, Option(help="Site ledger, or $RETICENT_LEDGER.", rich_help_panel=_JOB)] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Show the plan and every group's epsilon.", rich_help_panel=_JOB)
    ] = False,
) -> None:
    """Label a cohort in batches: each is chosen by the model so far, under one guarantee for choice and training.

    Fill in the label column of the CSV that is written, and call again with the campaign's folder.

    Example: reticent label manifest.csv --query-sizes 100,50,50 --classes healthy,ill --epsilon 8 --delta 1e-4
    --strategy entropy --selection-epsilon 2 --out campaign, then: reticent label campaign
    """
    given = dict(locals())
    flags = {name: value for name, value in given.items() if name != "cohort"}
    if launched_together():
        raise InputError("`reticent label` runs in one process; call it without torchrun")
    from reticent.training.active.campaign import Campaign

    if Campaign.is_one(Path(cohort)):
        if given_flags(flags):
            raise InputError(f"{cohort} goes on as it was planned; leave out all options")
        _advance(Campaign(Path(cohort)))
        return
    missing = [name for name in ("query_sizes", "classes", "epsilon", "delta") if given[name] is None]
    if missing:
        raise InputError(f"--{missing[0].replace('_', '-')} is missing; a new campaign needs it")
    _begin(cohort, given)


def _begin(cohort: str, given: dict[str, Any]) -> None:
    from reticent.data import manifest_name, read_pool
    from reticent.governance import ledger_path
    from reticent.records import make_study
    from reticent.training.active import plan_step_amplification
    from reticent.training.active.campaign import Campaign
    from reticent.training.active.pool_rows import class_names

    if cohort.endswith(".toml"):
        raise InputError(f"{cohort}: a study, of which a campaign would not take all options; name the manifest")
    sizes = _sizes(given["query_sizes"])
    classes = class_names([name.strip() for name in given["classes"].split(",")])
    names = (
        "epsilon", "delta", "max_norm", "max_records_per_subject", "budget", "seed", "column", "image_size",
        "normalise", "grey", "model", "model_argument", "init_from", "init_origin", "optimiser", "learning_rate",
        "augment",
    )  # fmt: skip
    study = make_study(*study_values(cohort, {name: given[name] for name in names}))
    rows = read_pool(study.cohort.uri, study.cohort.columns, given["label"])
    plan = plan_step_amplification(
        sizes,
        epsilon=given["epsilon"],
        delta=given["delta"],
        batch_size=max(1, round(_ROUGH_RATE * sizes[0])) if given["batch_size"] is None else given["batch_size"],
        epochs=_EPOCHS if given["epochs"] is None else given["epochs"],
        strategy=given["strategy"] or "random",
        selection_epsilon=given["selection_epsilon"] or 0.0,
        schedule=given["schedule"] or "step-amplification",
    )
    _show(plan, len({row["subject"] for row in rows if row["split"] == "unlabelled"}))
    if given["dry_run"]:
        console.print("Dry run: nothing was written or charged.")
        return
    out = given["out"] or Path(f"campaign-{manifest_name(Path(cohort))}")
    campaign = Campaign.create(
        out, rows, classes, study, plan, given["strategy"] or "random", ledger_path(given["ledger"])
    )
    _say_next(campaign, campaign.next_batch)


def _advance(campaign: Campaign) -> None:
    from reticent.records import RunFolder

    try:
        with progress() as advance:
            reached = campaign.advance(advance)
    except KeyboardInterrupt:
        console.print(f"The steps so far are kept and spent; continue with: reticent label {campaign.path}")
        raise
    if isinstance(reached, RunFolder):
        finish(reached)
    else:
        _say_next(campaign, reached)


def _say_next(campaign: Campaign, batch: NextBatch) -> None:
    console.print(
        f"Label {batch.records:,} records of {batch.subjects:,} patients in {batch.sheet} "
        f"({', '.join(campaign.state.classes)}), then: reticent label {campaign.path}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _show(plan: ActivePlan, pool: int) -> None:
    """The phases, and what each group will have spent after them."""
    from rich.table import Table

    groups = range(len(plan.phases))
    title = f"Plan: epsilon of each group of patients at delta = {plan.delta:g}, selection included"
    columns = ("phase", "to label", "steps", "noise", "rate: earlier, new", *(f"group {g}" for g in groups))
    table = Table(*columns, title=title, title_justify="left")
    for i, phase in enumerate(plan.phases):
        earlier = f"{phase.rates[0]:.4f}, " if i else ""
        spent = [plan.spent(g, i) for g in range(i + 1)]
        cells = (str(i), f"{phase.selected:,}", f"{phase.steps:,}", f"{phase.noise_multiplier:.4f}")
        table.add_row(*cells, f"{earlier}{phase.rates[-1]:.4f}", *map(str, spent))
    console.print(table)
    whole = plan.guarantee().profile().epsilon(plan.delta)
    console.print(f"Everybody, whoever is selected: epsilon {whole} at delta = {plan.delta:g}.", highlight=False)
    waiting = pool - sum(phase.selected for phase in plan.phases)
    if plan.round_epsilon and waiting > 0:
        scored = plan.selection(rounds=len(plan.phases) - 1).profile().epsilon(plan.delta)
        console.print(f"The {waiting:,} patients who are only scored: epsilon {scored}.", highlight=False)
    console.print("Compared are cohorts with one patient's data there or not, the patient's place being kept.")


def _sizes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--query-sizes {text!r}: give whole numbers, as 100,50,50") from None
