"""`reticent account`: every privacy number of one mechanism."""

from __future__ import annotations

from typing import Annotated

import typer

from reticent.cli.mechanism_options import (
    SOURCE_HELP,
    Delta,
    Json,
    NoiseMultiplier,
    Option,
    Plot,
    Population,
    Sampling,
    SamplingRate,
    Steps,
    Unit,
    mechanism_of,
)

_QUESTION = "Question"


def command(
    source: Annotated[str | None, typer.Argument(help=SOURCE_HELP, show_default=False)] = None,
    noise_multiplier: NoiseMultiplier = None,
    sampling_rate: SamplingRate = None,
    steps: Steps = None,
    sampling: Sampling = "poisson",
    population: Population = None,
    unit: Unit = "subject",
    delta: Delta = 1e-5,
    epsilon: Annotated[float, Option(help="Epsilon that delta is stated at.", rich_help_panel=_QUESTION)] = 1.0,
    eta: Annotated[float, Option(help="mu is stated down to delta = eta.", rich_help_panel=_QUESTION)] = 1e-10,
    prior: Annotated[
        float, Option(help="Chance of guessing a record, for reconstruction.", rich_help_panel=_QUESTION)
    ] = 1e-4,
    alpha: Annotated[
        list[float] | None, Option(help="False-positive rate of the curve; repeatable.", rich_help_panel=_QUESTION)
    ] = None,
    group: Annotated[int, Option(help="People protected together.", rich_help_panel=_QUESTION)] = 1,
    accuracy: Annotated[
        float, Option(help="Relative width of epsilon's bounds that is aimed at.", rich_help_panel=_QUESTION)
    ] = 1e-5,
    json: Json = False,
    plot: Plot = None,
) -> None:
    """Certified privacy numbers of a run or a mechanism, read off its trade-off curve.

    Example: reticent account --noise-multiplier 1 --sampling-rate 0.01 --steps 10000
    """
    from reticent.cli.accounting_output import ALPHAS, numbers, print_numbers
    from reticent.cli.console import print_json

    mechanism = mechanism_of(
        source,
        noise_multiplier=noise_multiplier,
        sampling_rate=sampling_rate,
        steps=steps,
        sampling=sampling,
        population=population,
        unit=unit,
    )
    profile = mechanism.profile(accuracy)
    profile = profile.group(group) if group != 1 else profile
    alphas = sorted(alpha) if alpha else ALPHAS
    found = numbers(mechanism, profile, delta=delta, epsilon=epsilon, eta=eta, prior=prior, alphas=alphas)
    found |= {"group": group} if group != 1 else {}
    if json:
        print_json(found)
    else:
        print_numbers(found, "Privacy of a group of " + f"{group}" if group != 1 else "Privacy")
    if plot is not None:
        from reticent.cli.accounting_plots import plot_profiles

        plot_profiles({"mechanism": profile}, plot)
