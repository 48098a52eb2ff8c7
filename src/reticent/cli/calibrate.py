"""`reticent calibrate`: the noise, steps or sampling rate for a target risk."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from reticent.cli.mechanism_options import (
    Json,
    NoiseMultiplier,
    Option,
    Plot,
    Population,
    Sampling,
    SamplingRate,
    Steps,
    Unit,
    sampled_gaussian,
)
from reticent.errors import InputError

if TYPE_CHECKING:
    from reticent.accounting import Calibration, Mechanism, Target

_TARGET = "Privacy target (exactly one)"
_RATES = "Rates of an attack"


def command(
    epsilon: Annotated[float | None, Option(help="(epsilon, delta)-DP, with --delta.", rich_help_panel=_TARGET)] = None,
    mu: Annotated[float | None, Option(help="Gaussian DP.", rich_help_panel=_TARGET)] = None,
    advantage: Annotated[float | None, Option(help="Membership advantage, 0 to 1.", rich_help_panel=_TARGET)] = None,
    tpr: Annotated[
        float | None, Option(help="Share of members that an attack may find at --fpr.", rich_help_panel=_TARGET)
    ] = None,
    precision: Annotated[
        float | None,
        Option(help="Share of the accused that may be members, at --fpr and --prior.", rich_help_panel=_TARGET),
    ] = None,
    reconstruction: Annotated[
        float | None, Option(help="Chance of reconstructing a record of --prior.", rich_help_panel=_TARGET)
    ] = None,
    delta: Annotated[
        float, Option(help="Delta of epsilon, also of the two-step route.", rich_help_panel=_RATES)
    ] = 1e-5,
    fpr: Annotated[float, Option(help="False-positive rate.", rich_help_panel=_RATES)] = 0.01,
    prior: Annotated[
        float, Option(help="Share of members among candidates, or chance of a guess.", rich_help_panel=_RATES)
    ] = 1e-4,
    knob: Annotated[
        str, Option(help="What to look for: noise-multiplier, steps or sampling-rate.", rich_help_panel="Mechanism")
    ] = "noise-multiplier",
    noise_multiplier: NoiseMultiplier = None,
    sampling_rate: SamplingRate = None,
    steps: Steps = None,
    sampling: Sampling = "poisson",
    population: Population = None,
    unit: Unit = "subject",
    json: Json = False,
    plot: Plot = None,
) -> None:
    """The least noise (most steps, largest sampling rate) that is certified to meet a target risk.

    Example: reticent calibrate --tpr 0.05 --fpr 0.01 --sampling-rate 0.01 --steps 10000
    """
    from reticent.accounting import calibrate, two_step
    from reticent.cli.accounting_output import numbers, print_numbers
    from reticent.cli.console import console, print_json

    target = _target(epsilon, mu, advantage, tpr, precision, reconstruction, delta, fpr, prior)
    given = {"noise_multiplier": noise_multiplier, "sampling_rate": sampling_rate, "steps": steps}
    name = knob.replace("-", "_")
    if name not in given:
        raise InputError(f"--knob {knob}: give noise-multiplier, steps or sampling-rate")
    if given.pop(name) is not None:
        raise InputError(f"--{knob} is what is looked for; leave it out, or choose another --knob")
    if name != "noise_multiplier" and noise_multiplier is None:
        raise InputError(f"--knob {knob} needs --noise-multiplier")

    def make(value: float) -> Mechanism:
        options: dict[str, Any] = given | {name: value}
        return sampled_gaussian(**options, sampling=sampling, population=population, unit=unit)

    found = calibrate(make, target, name)  # type: ignore[arg-type]
    detour = two_step(make, target, delta) if name == "noise_multiplier" and epsilon is None else None
    result = {
        name: found.value,
        "target": str(target),
        "achieved": found.achieved.to_dict(),
        "violating": found.violating,
        "two_step": {name: detour.value, "epsilon": target.implied_epsilon(delta), "delta": delta} if detour else None,
        **numbers(found.mechanism, found.profile, delta=delta),
    }
    if json:
        print_json(result)
    else:
        console.print(f"{knob} {_shown(found)} meets {target}: {found.achieved}.", highlight=False)
        if detour is not None:
            console.print(
                f"By way of epsilon = {target.implied_epsilon(delta):.4g} at delta = {delta:g}, which implies the "
                f"target, the noise would be {detour.value:.4g}, {detour.value / found.value:.3g} times as much.",
                highlight=False,
            )
        if advantage is not None:
            console.print(
                "An advantage bounds no attack at low false-positive rates: read the table's first rows.",
                highlight=False,
            )
        print_numbers(result, "What the mechanism then has")
    if plot is not None:
        from reticent.cli.accounting_plots import plot_profiles

        plot_profiles({"calibrated": found.profile} | ({"two-step": detour.profile} if detour else {}), plot)


def _target(
    epsilon: float | None,
    mu: float | None,
    advantage: float | None,
    tpr: float | None,
    precision: float | None,
    reconstruction: float | None,
    delta: float,
    fpr: float,
    prior: float,
) -> Target:
    from reticent import accounting

    makers: list[tuple[float | None, Callable[[float], Target]]] = [
        (epsilon, lambda value: accounting.EpsilonTarget(value, delta)),
        (mu, accounting.MuTarget),
        (advantage, accounting.AdvantageTarget),
        (tpr, lambda value: accounting.ErrorRatesTarget(fpr, value)),
        (precision, lambda value: accounting.PrecisionTarget(value, prior, fpr)),
        (reconstruction, lambda value: accounting.ReconstructionTarget(prior, value)),
    ]
    chosen = [make(value) for value, make in makers if value is not None]
    if len(chosen) != 1:
        raise InputError("give exactly one of --epsilon, --mu, --advantage, --tpr, --precision, --reconstruction")
    return chosen[0]


def _shown(found: Calibration) -> str:
    """The value, rounded to the safe side: noise up, a sampling rate down."""
    from reticent.accounting import Certified

    if isinstance(found.value, int):
        return str(found.value)
    return str(Certified(found.value, found.value, "upper" if found.value >= (found.violating or 0.0) else "lower"))
