"""`reticent risk`: a mechanism in the words of people who are attacked."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reticent.cli.mechanism_options import (
    SOURCE_HELP,
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
from reticent.errors import InputError

if TYPE_CHECKING:
    from reticent.accounting import Mechanism, PrivacyProfile, RiskCorridor

_QUESTION, _IMAGES = "Question", "Images seen from scratch"
FALSE_ALARMS = (1e-4, 1e-3, 1e-2, 0.1)


def command(
    source: Annotated[str | None, typer.Argument(help=SOURCE_HELP, show_default=False)] = None,
    noise_multiplier: NoiseMultiplier = None,
    sampling_rate: SamplingRate = None,
    steps: Steps = None,
    sampling: Sampling = "poisson",
    population: Population = None,
    unit: Unit = "subject",
    members: Annotated[
        float, Option(help="Share of members among an attacker's candidates.", rich_help_panel=_QUESTION)
    ] = 0.5,
    prior: Annotated[float, Option(help="Chance of guessing a record.", rich_help_panel=_QUESTION)] = 1e-4,
    success: Annotated[
        float, Option(help="Tolerated chance of reconstruction, for the corridor.", rich_help_panel=_QUESTION)
    ] = 0.1,
    pixels: Annotated[
        int | None, Option(help="Numbers in an image: adds attacks without any prior.", rich_help_panel=_IMAGES)
    ] = None,
    record_norm: Annotated[
        float | None, Option(help="L2 norm of an image (sqrt(pixels) / 2).", rich_help_panel=_IMAGES)
    ] = None,
    error: Annotated[
        float, Option(help="Mean squared error that counts as a success.", rich_help_panel=_IMAGES)
    ] = 1e-2,
    json: Json = False,
    plot: Plot = None,
) -> None:
    """What attackers of different knowledge can reach: bounds, relaxed adversaries, images from scratch.

    Example: reticent risk --noise-multiplier 1 --sampling-rate 0.01 --steps 10000 --pixels 784
    """
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
    profile = mechanism.profile()
    found = _membership(mechanism, profile, members) | {
        "reconstruction": profile.reconstruction(prior).to_dict() | {"prior": prior}
    }
    corridor = None
    if pixels is not None:
        corridor, images = _images(mechanism, pixels, record_norm, error, success, prior)
        found["images"] = images
    if json:
        print_json(found)
    else:
        _print(found)
    if plot is not None:
        from reticent.cli.accounting_plots import plot_corridor, plot_profiles

        if corridor is None:
            plot_profiles({"mechanism": profile}, plot)
        else:
            plot_corridor(corridor, plot)


def _membership(mechanism: Mechanism, profile: PrivacyProfile, members: float) -> dict[str, Any]:
    from reticent.accounting import GLRTAdversary, bayes_error

    reason = getattr(profile, "reason", None)
    mu, missed = profile.mu().upper, bayes_error(profile, 1 - members)
    relaxed = GLRTAdversary(mu) if 0 < mu < 1e6 else None
    rows = [
        {
            "alpha": alpha,
            "power": power.to_dict(),
            "precision": members * power.upper / (members * power.upper + (1 - members) * alpha),
            "relaxed": relaxed.roc(alpha).to_dict() if relaxed else None,
        }
        for alpha, power in zip(FALSE_ALARMS, profile.power(FALSE_ALARMS), strict=True)
    ]
    return {
        "mechanism": mechanism.to_dict(),
        "neighbouring_relation": mechanism.neighbouring_relation,
        **({"reason": reason} if reason else {}),
        "advantage": profile.advantage().to_dict(),
        "members": members,
        "bayes_error": missed.to_dict(),
        "membership": rows,
        "relaxed_adversary": "knows everything but the sign of the contribution; an estimate, never a guarantee",
    }


def _images(
    mechanism: Mechanism, pixels: int, record_norm: float | None, error: float, success: float, prior: float
) -> tuple[RiskCorridor, dict[str, Any]]:
    """Attacks that know no candidates, on the noise of one step; they may watch each step of the run."""
    from reticent.accounting import FromScratchAttack, risk_corridor

    noise = getattr(mechanism, "noise_multiplier", None)
    if noise is None or not isinstance(mechanism.plans, tuple):
        raise InputError("--pixels needs a single mechanism with a noise multiplier; leave it out for compositions")
    steps, norm = int(getattr(mechanism, "steps", 1)), record_norm or math.sqrt(pixels) / 2
    attack = FromScratchAttack(pixels, noise, norm, observations=steps)
    errors = [error * 10 ** (k / 4) for k in range(-8, 9)]
    corridor = risk_corridor(success, prior, errors, pixels, norm, observations=steps)
    return corridor, {
        "pixels": pixels,
        "record_norm": norm,
        "observations": steps,
        "error": error,
        "attacks": [{"attack": row.attack, "success": row.probability} for row in attack.beside(error)],
        "noise_for_identification": corridor.sigma_identification,
        "reading": corridor.reading(),
        "note": "the unbiased attack is the best unbiased one, no bound on attackers; all steps are taken as watched",
    }


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table

    from reticent.accounting import Certified
    from reticent.cli.console import console

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False)

    def up(value: float) -> str:
        return str(Certified(value, value, "upper"))

    if "reason" in found:
        say(f"No certified bound: {found['reason']}.")
        return
    table = Table(
        *("false alarms", "members found, at most", "of the accused, members", "sign unknown (estimate)"),
        title="Who was in the training data?",
        title_justify="left",
    )
    for row in found["membership"]:
        relaxed = f"{row['relaxed']['value']:.4g}" if row["relaxed"] else ""
        table.add_row(f"{row['alpha']:g}", up(row["power"]["upper"]), up(row["precision"]), relaxed)
    console.print(table)
    wrong, share = found["bayes_error"]["lower"], found["members"]
    say(
        f"If {100 * share:g} % of the candidates are members, even the best attacker decides wrongly in at least "
        f"{100 * wrong:.4g} % of cases; guessing alone: {100 * min(share, 1 - share):.4g} %."
    )
    rebuilt = found["reconstruction"]
    say(
        f"A record that could be guessed with probability {rebuilt['prior']:g} is reconstructed with probability at "
        f"most {up(rebuilt['upper'])}."
    )
    if "images" in found:
        images = found["images"]
        say(f"Without candidates, an image of {images['pixels']:,} numbers to an error (MSE) of {images['error']:g}:")
        for attack in images["attacks"]:
            share = "less than 1e-300" if attack["success"] < 1e-300 else f"{attack['success']:.3g}"
            say(f"  {attack['attack']}: succeeds with probability {share}")
        say(images["reading"])
    say(f"Neighbours: {found['neighbouring_relation']}. The column of the relaxed adversary is no guarantee.")
