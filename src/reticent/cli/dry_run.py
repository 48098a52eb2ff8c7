"""`reticent train --dry-run`: what a study would cost, measured on made-up images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reticent.cli.console import console, print_warning

if TYPE_CHECKING:
    from reticent.data import Cohort
    from reticent.records import Study


def show_dry_run(study: Study, cohort: Cohort, ledger: Path) -> None:
    """Print noise, steps, guarantee, expected time and memory. Charges nothing, reads no pixels."""
    from rich.table import Table

    from reticent.governance import Ledger
    from reticent.records import privacy_numbers
    from reticent.training import at_temperature, estimate, make_plan, run_temperature, weak_delta
    from reticent.training.frozen_features import DIMENSION

    plan = make_plan(study, len(cohort.classes))
    study = plan.study
    key = None
    if ledger.exists():
        with Ledger.open(ledger) as site:
            key = site.derive_key("split")
    cost = estimate(study, cohort, key)
    if (weak := weak_delta(study, cost.subjects)) is not None and plan.noise_multiplier is not None:
        print_warning(weak, UserWarning)
    table = Table("planned", "value", title="Dry run: nothing was trained or charged", title_justify="left")
    privacy = study.privacy
    kept = f", and {privacy.groups - 1} earlier noises" if privacy.groups > 1 else ""
    turns = f" of the group whose turn it is (of {privacy.groups})" if privacy.groups > 1 else ""
    rows = {
        "unit of privacy": study.cohort.unit + " (single images, not patients)" * (study.cohort.unit == "record"),
        f"training {study.cohort.unit}s": f"{cost.subjects:,}{'' if cost.exact else ' or so: the split will be drawn'}",
        "steps": f"{privacy.steps:,}",
        "sampling rate": f"{privacy.sampling_rate:g}{turns}, about {cost.records_per_step:.0f} images a step",
    }
    if privacy.private_activations:
        randomised = f"randomised, epsilon {privacy.label_epsilon:g}" if privacy.label_epsilon else "public"
        rows["released once"] = f"{privacy.feature_dimension or DIMENSION} features an image; labels: {randomised}"
    if plan.noise_multiplier is None:
        rows["privacy"] = "none (--non-private)"
    else:
        over = f", correlated over {privacy.groups} steps" if privacy.groups > 1 else ""
        numbers = privacy_numbers(plan.mechanism, privacy.stated_delta)
        rows |= {
            "noise multiplier": f"{plan.noise_multiplier:.4f}{over}",
            f"epsilon at delta = {privacy.stated_delta:g}": f"{numbers['epsilon']} ({numbers['epsilon'].kind})",
            "mu": f"{numbers['mu']} ({numbers['mu'].kind})",
            "membership advantage": f"{numbers['advantage']} ({numbers['advantage'].kind})",
        }
    plan = at_temperature(plan, cost.subjects)
    if (temperature := run_temperature(plan, cost.subjects)) is not None:
        rows["Langevin"] = (
            f"temperature {temperature:.3g} (1: the posterior) at learning rate {plan.study.training.learning_rate:.3g}"
        )
    rows |= {
        "image size": " x ".join(map(str, cost.image_size)),
        "parameters": f"{cost.parameters:,}",
        "expected time": f"about {_duration(cost.seconds)} on this machine",
        "expected memory": f"about {cost.memory / 2**20:,.0f} MB for gradients and activations{kept}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"
