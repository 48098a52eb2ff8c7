"""`reticent compare`: which of two mechanisms is more vulnerable, and where."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reticent.cli.mechanism_options import SOURCE_HELP, Json, Option, Plot, mechanism_from_source, sampled_gaussian
from reticent.errors import InputError

if TYPE_CHECKING:
    from reticent.accounting import Certified, Mechanism

_SAME = "Designs of the same epsilon, instead of FIRST and SECOND"


def command(
    first: Annotated[str | None, typer.Argument(help=SOURCE_HELP, show_default=False)] = None,
    second: Annotated[str | None, typer.Argument(help="The same.", show_default=False)] = None,
    epsilon: Annotated[float | None, Option(help="Calibrate all to this epsilon.", rich_help_panel=_SAME)] = None,
    delta: Annotated[float, Option(help="At this delta.", rich_help_panel=_SAME)] = 1e-5,
    sampling_rate: Annotated[
        list[float] | None, Option(help="Sampling rate of a design; give several.", rich_help_panel=_SAME)
    ] = None,
    steps: Annotated[int | None, Option(help="Steps of each.", rich_help_panel=_SAME)] = None,
    tolerance: Annotated[float, Option(help="Smaller differences count as none.", rich_help_panel="Question")] = 1e-4,
    json: Json = False,
    plot: Plot = None,
) -> None:
    """Compare mechanisms beyond one epsilon: excess vulnerability both ways, at which prior, and who dominates.

    Example: reticent compare runs/a runs/b

    Same epsilon, other batch size: reticent compare --epsilon 8 --steps 2000 --sampling-rate 0.001 --sampling-rate 1
    """
    from reticent.accounting import compare
    from reticent.cli.console import console, print_json

    if epsilon is not None or sampling_rate:
        if first is not None or epsilon is None or steps is None or len(sampling_rate or ()) < 2:
            raise InputError("give FIRST and SECOND, or --epsilon, --steps and at least two --sampling-rate")
        _designs(epsilon, delta, sampling_rate or [], steps, tolerance, json)
        return
    if first is None or second is None:
        raise InputError("name two mechanisms: runs, privacy.json files or texts; see --help")
    mechanisms = [mechanism_from_source(source) for source in (first, second)]
    for name in ("neighbouring_relation", "unit"):
        values = [getattr(mechanism, name) for mechanism in mechanisms]
        if values[0] != values[1]:
            raise InputError(f"{first} and {second} differ in their {name} ({values[0]}, {values[1]}); not comparable")
    profiles = [mechanism.profile() for mechanism in mechanisms]
    found = compare(profiles[0], profiles[1], tolerance)
    if json:
        print_json(_as_json(found, mechanisms))
    else:
        from rich.table import Table

        from reticent.cli.accounting_output import text_of

        table = Table(
            "", "first", "second", "ratio", title="Largest true-positive rate of an attack", title_justify="left"
        )
        for alpha, one, other in found.rows:
            ratio = f"{other.upper / one.upper:.3g}" if one.upper else ""
            table.add_row(f"at false-positive rate {alpha:g}", text_of(one), text_of(other), ratio)
        table.add_row("advantage", *(text_of(value) for value in found.advantages), "")
        console.print(table)
        console.print(found.reading(), highlight=False, markup=False)
    if plot is not None:
        from reticent.cli.accounting_plots import plot_comparison

        plot_comparison({"first": profiles[0], "second": profiles[1]}, plot)


def _as_json(found: Any, mechanisms: list[Mechanism]) -> dict[str, Any]:
    def side(divergence: Any) -> dict[str, Any]:
        return divergence.value.to_dict() | {"epsilon": divergence.epsilon, "prior": divergence.prior}

    return {
        "first": mechanisms[0].to_dict(),
        "second": mechanisms[1].to_dict(),
        "verdict": found.verdict,
        "tolerance": found.tolerance,
        "second_over_first": side(found.second_over_first),
        "first_over_second": side(found.first_over_second),
        "symmetric": found.symmetric.to_dict(),
        "advantage": [value.to_dict() for value in found.advantages],
        "power": [
            {"alpha": alpha, "first": one.to_dict(), "second": other.to_dict()} for alpha, one, other in found.rows
        ],
    }


def _design(rate: float, steps: int, noise_multiplier: float) -> Mechanism:
    return sampled_gaussian(noise_multiplier, rate, steps)


def _designs(epsilon: float, delta: float, rates: list[float], steps: int, tolerance: float, as_json: bool) -> None:
    from reticent.accounting import EpsilonTarget, calibrate, delta_divergence
    from reticent.cli.console import console, print_json

    target = EpsilonTarget(epsilon, delta)
    designs = [(rate, calibrate(partial(_design, rate, steps), target)) for rate in rates]
    best = min(designs, key=lambda design: design[1].profile.advantage().upper)[1]
    rows: list[dict[str, float | Certified]] = [
        {
            "sampling_rate": rate,
            "noise_multiplier": design.value,
            "noise_per_unit": design.value / rate,
            "advantage": design.profile.advantage(),
            "power": design.profile.power(1e-3),
            "excess": delta_divergence(best.profile, design.profile, tolerance / 4).value,
        }
        for rate, design in designs
    ]
    if as_json:
        print_json(
            {"epsilon": epsilon, "delta": delta, "steps": steps}
            | {"designs": [{k: v if isinstance(v, float) else v.to_dict() for k, v in row.items()} for row in rows]}
        )
        return
    from rich.table import Table

    from reticent.cli.accounting_output import text_of

    table = Table(
        *("sampling rate", "noise multiplier", "noise / rate", "advantage", "TPR at FPR 1e-3", "excess over the best"),
        title=f"{steps} steps, all at epsilon {epsilon:g}, delta {delta:g}",
        title_justify="left",
    )
    for row in rows:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else text_of(value) for value in row.values()))
    console.print(table)
    console.print(
        "noise / rate: standard deviation of the noise on the averaged gradient, in clip norms per cohort size; "
        "excess: how much more often the best attacker decides rightly, at the worst prior.",
        highlight=False,
    )
